"""Auto: who can do the task, then who will be through with it soonest, then who costs less.

- A request with a task goes first to targets that declare what the task wants, if any does.
- Where weights are given they are the shares, less for who fails in a row.
- Else the load counts: requests in flight, those of others as the engine tells them, failures in a row as well, twice
  for who is more than twice as slow as the fastest lately, four times for more than four times. Smaller differences are
  noise, for prompts differ more; so is whatever happens within a tenth of a second, and a single answer, which may have
  had to wait for the model.
- Among equals the cheapest, then chance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final

from pointsman.api import route as api
from pointsman.api.model import Capability
from pointsman.domain.features import TASK_CAPABILITY, Features, race, salt_of
from pointsman.domain.strategies.lowest_cost import cost_of, cost_words
from pointsman.domain.strategies.strategy import Seat, Strategy, busy_words, pace_words
from pointsman.domain.strategies.weighted import share_words

SLOW: Final = 2.0
VERY_SLOW: Final = 4.0
"""Times as slow as the fastest: so many times the load."""
QUICK_MS: Final = 100.0
"""Nobody counts as faster."""
LEAST_ANSWERS: Final = 2
"""So many must be known of an endpoint."""


@dataclass(frozen=True)
class Auto(Strategy):
    name: ClassVar[api.Strategy] = api.Strategy.AUTO
    weighted: bool = False
    """A target of the tier has a weight."""
    priced: bool = False
    """Its targets differ in price."""
    skilled: frozenset[Capability] = frozenset()
    """What any of them declares."""

    def keys(self, seats: tuple[Seat, ...], request: Features, now: float) -> list[Any]:
        keys: list[Any] = self._shares(seats, request, now) if self.weighted else self._loads(seats, request, now)
        if self.priced:
            keys = [(key, cost_of(s, request)) for key, s in zip(keys, seats, strict=True)]
        if self.skilled and (wanted := self._wanted(request)) is not None:
            keys = [(wanted not in s.target.traits.capabilities, k) for k, s in zip(keys, seats, strict=True)]
        return keys

    def _wanted(self, request: Features) -> Capability | None:
        wanted = TASK_CAPABILITY.get(request.task) if request.task is not None else None
        return wanted if wanted in self.skilled else None

    def _shares(self, seats: tuple[Seat, ...], request: Features, now: float) -> list[tuple[float, int]]:
        # The target with all its endpoints is as well as the best of them.
        worse: dict[int, int] = {}
        for s in seats:
            failing = s.machine.burden(now) - s.machine.in_flight
            index = s.target.index
            worse[index] = min(failing, worse.get(index, failing))
        return [
            (
                race(request.seed, salt_of(s.target.label), s.target.share / (1 + worse[s.target.index])),
                s.machine.burden(now),
            )
            for s in seats
        ]

    def _loads(self, seats: tuple[Seat, ...], request: Features, now: float) -> list[int]:
        stream = request.stream
        paces = [s.machine.pace_of(s.target.upstream_model, stream, now, LEAST_ANSWERS) for s in seats]
        known = [p for p in paces if p is not None]
        loads = [s.machine.burden(now) + s.machine.others + 1 for s in seats]
        if len(known) > 1:
            fastest = max(QUICK_MS, min(known))
            if max(known) > SLOW * fastest:
                return [n * _times(p, fastest) for n, p in zip(loads, paces, strict=True)]
        return loads

    def quick(self, seats: tuple[Seat, ...], request: Features, now: float) -> int:
        """Where only the load counts, and nobody is so slow that it counts for more: the usual."""
        if self.weighted or self.priced or self.skilled:
            return -1
        stream = request.stream
        known = least = equals = 0
        fastest = slowest = 0.0
        for s in seats:
            machine = s.machine
            load = machine.burden(now) + machine.others
            if not equals or load < least:
                least, equals = load, 1
            elif load == least:
                equals += 1
            pace = machine.pace_of(s.target.upstream_model, stream, now, LEAST_ANSWERS)
            if pace is not None:
                slowest = max(slowest, pace)
                fastest = min(fastest, pace) if known else pace
                known += 1
        if known > 1 and slowest > SLOW * max(QUICK_MS, fastest):
            return -1
        turn = request.seed % equals if equals > 1 else 0
        place = 0
        for s in seats:
            if s.machine.burden(now) + s.machine.others == least:
                if not turn:
                    break
                turn -= 1
            place += 1
        return place

    def words(self, seats: tuple[Seat, ...], request: Features, now: float) -> list[str]:
        shares = share_words(seats) if self.weighted else {}
        wanted = self._wanted(request) if self.skilled else None
        out = []
        for s in seats:
            words = [shares.get(s.target.index, ""), busy_words(s, now), pace_words(s, request, now)]
            if wanted is not None:
                words.insert(0, f"{'declares' if wanted in s.target.traits.capabilities else 'lacks'} {wanted.value}")
            if self.priced:
                words.append(cost_words(s, request))
            out.append(", ".join(filter(None, words)))
        return out


def _times(pace: float | None, fastest: float) -> int:
    if pace is None or pace <= SLOW * fastest:
        return 1
    return 2 if pace <= VERY_SLOW * fastest else 4
