"""The two backends, told apart by the marks that requests carry: who was asked how often, and for which request.

Requests are recognised by a mark in their prompt, so that health checks and late retries of a gateway disturb nothing.
"""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from dataclasses import dataclass, field

from pointsman.conform.scenario import Scenario
from pointsman.simulator.backend import SimulatedBackend
from pointsman.simulator.behaviour import Behaviour, answers, says
from pointsman.simulator.connection import Request
from pointsman.simulator.openai_bytes import error

FIRST = "alpha"
SECOND = "bravo"
_MARK = re.compile(rb"<(\w+)-(\d+)-(\d+)>")
_FAILS = answers(500, error("to see whether the second backend answers"))


@dataclass(frozen=True)
class Mark:
    """`run` keeps caches of earlier runs out; `scenario` 0 is for checks; `number` counts requests."""

    run: str
    scenario: int
    number: int

    def __str__(self) -> str:
        return f"<{self.run}-{self.scenario}-{self.number}>"


@dataclass
class Backends:
    """Give the addresses where the gateway expects its two backends."""

    models: tuple[str, ...]
    patience: float
    running: Scenario | None = None
    number: int = 0
    """Of the running scenario."""
    first_fails: bool = False
    """Checks are answered 500 by the first backend."""
    seen: defaultdict[tuple[str, str], list[Request]] = field(default_factory=lambda: defaultdict(list))
    """(backend, mark) → attempts."""

    def __post_init__(self) -> None:
        self.first = self._backend(FIRST)
        self.second = self._backend(SECOND)
        self._asked: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._counts: defaultdict[str, int] = defaultdict(int)

    def _backend(self, label: str) -> SimulatedBackend:
        backend = SimulatedBackend(label, self.models, self.patience)
        backend.speaks = lambda request: self.text(label, _mark(request))
        backend.choose = lambda request: self._choose(label, request)
        return backend

    @staticmethod
    def text(label: str, mark: str) -> str:
        """The whole answer of a backend to the request with that mark."""
        return f"{label}{mark} one two three four five"

    def begin(self, scenario: Scenario | None) -> None:
        self.running = scenario
        self.number += 1
        for book in (self._counts, self.seen, self._asked):
            book.clear()

    def count(self, label: str, mark: Mark | None = None) -> int:
        """Attempts that a backend saw for a request, or for all of the running scenario."""
        if mark is not None:
            return len(self.seen[label, str(mark)])
        return self._counts[label]

    async def asked(self, mark: Mark, seconds: float) -> Request:
        """The first attempt at the first backend. Raises `TimeoutError`."""
        await asyncio.wait_for(self._asked[str(mark)].wait(), seconds)
        return self.seen[FIRST, str(mark)][0]

    def _choose(self, label: str, request: Request) -> Behaviour:
        mark = _mark(request)
        self.seen[label, mark].append(request)
        if label == FIRST:
            self._asked[mark].set()
        if self.running is None or f"-{self.number}-" not in mark:
            return _FAILS if label == FIRST and self.first_fails and "-0-" in mark else says
        self._counts[label] += 1
        script = self.running.first if label == FIRST else self.running.second
        return script[min(self._counts[label], len(script)) - 1]


def _mark(request: Request) -> str:
    found = _MARK.search(request.body)
    return found[0].decode() if found else ""
