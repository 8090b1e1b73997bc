"""LowestCost: whoever is cheapest for this request, by the estimate of its prompt and an answer of usual length.

A model without a price is free. Among equally cheap ones the least loaded goes first. Who fails in a row comes last for
a while: saving money is no reason to fail.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pointsman.api import route as api
from pointsman.domain.features import Features
from pointsman.domain.strategies.strategy import Seat, Strategy, busy_words


def cost_of(seat: Seat, request: Features) -> int:
    price = seat.target.traits.price
    return 0 if price is None else price.cost(request.prompt_tokens)


def cost_words(seat: Seat, request: Features) -> str:
    cost = cost_of(seat, request)
    return f"about {cost / 1e12:.6f} a request" if cost else "free"


@dataclass(frozen=True)
class LowestCost(Strategy):
    name: ClassVar[api.Strategy] = api.Strategy.LOWEST_COST

    def keys(self, seats: tuple[Seat, ...], request: Features, now: float) -> list[tuple[bool, int, float]]:
        keys = []
        for seat in seats:
            machine = seat.machine
            load = machine.burden(now)
            keys.append((load > machine.in_flight, cost_of(seat, request), (load + 1) / seat.target.share))
        return keys

    def words(self, seats: tuple[Seat, ...], request: Features, now: float) -> list[str]:
        return [f"{cost_words(s, request)}, {busy_words(s, now)}" for s in seats]
