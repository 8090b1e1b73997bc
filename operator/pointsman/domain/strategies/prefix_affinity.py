"""PrefixAffinity: prompts that begin alike go to the endpoint that has that beginning in its cache.

The beginning of the prompt is hashed with each endpoint's key (weighted rendezvous hashing): endpoints that come and go
move only their own prompts. None takes more than 1.25 times the mean of what is in flight, this request included: above
that the next nearest is asked. Failures in a row count as requests in flight.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import ClassVar

from pointsman.api import route as api
from pointsman.domain.features import Features, race, salt_of
from pointsman.domain.strategies.strategy import Seat, Strategy, busy_words

LOAD_BOUND = 1.25


def most_in_flight(seats: tuple[Seat, ...]) -> int:
    """How many requests one endpoint may have with the new one."""
    total = sum({id(s.machine): s.machine.in_flight for s in seats}.values())
    return ceil(LOAD_BOUND * (total + 1) / len({id(s.machine) for s in seats}))


@dataclass(frozen=True)
class PrefixAffinity(Strategy):
    name: ClassVar[api.Strategy] = api.Strategy.PREFIX_AFFINITY

    def keys(self, seats: tuple[Seat, ...], request: Features, now: float) -> list[tuple[bool, float]]:
        most = most_in_flight(seats)
        prefix = request.prefix
        return [(s.machine.burden(now) >= most, race(prefix, salt_of(s.endpoint.key), s.target.share)) for s in seats]

    def words(self, seats: tuple[Seat, ...], request: Features, now: float) -> list[str]:
        most = most_in_flight(seats)
        return [f"by the prompt's beginning, {busy_words(s, now)} of at most {most}" for s in seats]
