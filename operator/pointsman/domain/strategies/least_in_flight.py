"""LeastInFlight: whoever has the least to do for its weight.

Failures in a row count as requests in flight, so that an endpoint that fails fast attracts no traffic; after half a
minute without another one it gets its chance again. What others have there counts as of the engine's last word.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pointsman.api import route as api
from pointsman.domain.features import Features
from pointsman.domain.strategies.strategy import Seat, Strategy, busy_words


@dataclass(frozen=True)
class LeastInFlight(Strategy):
    name: ClassVar[api.Strategy] = api.Strategy.LEAST_IN_FLIGHT

    def keys(self, seats: tuple[Seat, ...], request: Features, now: float) -> list[float]:
        return [(s.machine.burden(now) + s.machine.others + 1) / s.target.share for s in seats]

    def words(self, seats: tuple[Seat, ...], request: Features, now: float) -> list[str]:
        return [busy_words(s, now) + (f", weight {s.target.share}" if s.target.share != 1 else "") for s in seats]
