"""Weighted: each target gets its share of the requests, whatever else is the case.

Chance decides, by the request's id; with `sticky` it is the caller's key that decides, and the same key gets the same
target while the weights stay. A target that is out gives its requests to the others in proportion to their weights, and
takes exactly those back (weighted rendezvous hashing). Within a target the least loaded endpoint goes first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pointsman.api import route as api
from pointsman.domain.features import Features, race, salt_of, seed_of
from pointsman.domain.strategies.strategy import Seat, Strategy, busy_words

if TYPE_CHECKING:
    from pointsman.domain.table import Target


@dataclass(frozen=True)
class Weighted(Strategy):
    name: ClassVar[api.Strategy] = api.Strategy.WEIGHTED
    sticky: bool = False
    header: bytes | None = None
    """The header that has the key, in lower case."""

    def keys(self, seats: tuple[Seat, ...], request: Features, now: float) -> list[tuple[float, int]]:
        seed = request.seed
        if self.sticky:
            key = request.key(self.header)
            if key is not None:
                seed = seed_of(key.encode())
        return [(race(seed, salt_of(s.target.label), s.target.share), s.machine.burden(now)) for s in seats]

    def words(self, seats: tuple[Seat, ...], request: Features, now: float) -> list[str]:
        decides = "the request's id decides"
        if self.sticky and request.key(self.header) is not None:
            decides = "the caller's key decides"
        parts = share_words(seats)
        return [f"{parts[s.target.index]}, {decides}; {busy_words(s, now)}" for s in seats]


def share_words(seats: tuple[Seat, ...]) -> dict[int, str]:
    """By the target's index."""
    targets: dict[int, Target] = {s.target.index: s.target for s in seats}
    total = sum(t.share for t in targets.values())
    return {i: f"weight {t.share} of {total}: {100 * t.share / total:.3g} %" for i, t in targets.items()}
