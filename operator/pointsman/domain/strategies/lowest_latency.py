"""LowestLatency: whoever has answered fastest lately: streams by their first token, whole answers by their last.

Who is within a fifth of the fastest counts as equally fast: there the least loaded goes first. Who was not measured for
half a minute is asked once, alone, so that something is known. Who fails in a row comes last for a while.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pointsman.api import route as api
from pointsman.domain.features import Features
from pointsman.domain.strategies.strategy import Seat, Strategy, busy_words, pace_words

ALIKE = 1.2
_UNKNOWN, _KNOWN, _AWAITED = range(3)


@dataclass(frozen=True)
class LowestLatency(Strategy):
    name: ClassVar[api.Strategy] = api.Strategy.LOWEST_LATENCY

    def keys(self, seats: tuple[Seat, ...], request: Features, now: float) -> list[tuple[bool, int, float, int]]:
        stream = request.stream
        paces = [s.machine.pace_of(s.target.upstream_model, stream, now) for s in seats]
        alike = ALIKE * min((p for p in paces if p is not None), default=0.0)
        keys = []
        for seat, pace in zip(seats, paces, strict=True):
            machine = seat.machine
            load = machine.burden(now)
            fails = load > machine.in_flight
            if pace is not None:
                keys.append((fails, _KNOWN, 0.0 if pace <= alike else pace, load))
            else:
                keys.append((fails, _AWAITED if load else _UNKNOWN, 0.0, load))
        return keys

    def words(self, seats: tuple[Seat, ...], request: Features, now: float) -> list[str]:
        return [f"{pace_words(s, request, now) or 'not measured lately'}, {busy_words(s, now)}" for s in seats]
