"""Who goes first among equals: the targets of one priority and their endpoints. One strategy a file.

Decided here: which strategy a tier of a route has. `strategy.py` says what a strategy is.
"""

from __future__ import annotations

from collections.abc import Sequence

from pointsman.api import route as api
from pointsman.domain.strategies.auto import Auto
from pointsman.domain.strategies.least_in_flight import LeastInFlight
from pointsman.domain.strategies.lowest_cost import LowestCost
from pointsman.domain.strategies.lowest_latency import LowestLatency
from pointsman.domain.strategies.prefix_affinity import PrefixAffinity
from pointsman.domain.strategies.strategy import Seat, Strategy, arranged, first
from pointsman.domain.strategies.weighted import Weighted
from pointsman.domain.traits import Traits

__all__ = ["Seat", "Strategy", "arranged", "first", "strategy_of"]


def strategy_of(
    name: api.Strategy, sticky: api.Sticky | None, weights: Sequence[int | None], traits: Sequence[Traits]
) -> Strategy:
    """For a tier whose targets have these weights and traits."""
    match name:
        case api.Strategy.WEIGHTED:
            header = sticky.header.lower().encode() if sticky and sticky.header else None
            return Weighted(sticky is not None, header)
        case api.Strategy.LEAST_IN_FLIGHT:
            return LeastInFlight()
        case api.Strategy.LOWEST_LATENCY:
            return LowestLatency()
        case api.Strategy.LOWEST_COST:
            return LowestCost()
        case api.Strategy.PREFIX_AFFINITY:
            return PrefixAffinity()
        case _:
            return Auto(
                weighted=any(weights),
                priced=len({t.price for t in traits}) > 1,
                skilled=frozenset().union(*(t.capabilities for t in traits)),
            )
