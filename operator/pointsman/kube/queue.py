"""The work queue: which key is reconciled when.

Invariants, each with a test: a key is never worked on twice at a time; a key that waits is there once, however often it
was added; what was added while its key was worked on is done afterwards; a failing key waits longer and longer (up to a
cap) and never delays another; an addition is never lost.

`Schedule` is pure (time and chance come in); `WorkQueue` lets tasks wait for it.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
import time
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

BACKOFF_FIRST = 0.5
"""Seconds after a first failure."""
BACKOFF_CAP = 120.0
RESYNC_SECONDS = 600.0
JITTER = 0.2
"""A wait is up to this part longer, so that keys that failed together do not return together."""


class Schedule(Generic[K]):
    """When each key is due. All times are seconds of one clock that the caller reads."""

    def __init__(self, chance: Callable[[], float]) -> None:
        self._chance = chance
        self._due: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._order = itertools.count()
        self._working: set[K] = set()
        self._failures: dict[K, int] = {}

    def add(self, key: K, due: float) -> None:
        """The earliest time asked for counts."""
        if key in self._due and self._due[key] <= due:
            return
        self._due[key] = due
        if key not in self._working:
            heapq.heappush(self._heap, (due, next(self._order), key))

    def pop(self, now: float) -> K | None:
        """A key that is due, now being worked on; None when there is none."""
        while self._heap and self._heap[0][0] <= now:
            due, _, key = heapq.heappop(self._heap)
            if self._due.get(key) == due and key not in self._working:
                del self._due[key]
                self._working.add(key)
                return key
        return None

    def next_due(self) -> float | None:
        """When the next key is due that nobody works on."""
        while self._heap:
            due, _, key = self._heap[0]
            if self._due.get(key) == due and key not in self._working:
                return due
            heapq.heappop(self._heap)
        return None

    def done(self, key: K, now: float, again: float | None) -> None:
        """`again`: seconds until the key is due once more, whatever happens meanwhile; None for never."""
        self._failures.pop(key, None)
        self._finish(key)
        if again is not None:
            self.add(key, now + again * self._jitter())

    def failed(self, key: K, now: float, at_least: float = 0.0) -> float:
        """Seconds until the key is due again; `at_least` is what a server asked for."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        wait = max(min(BACKOFF_CAP, BACKOFF_FIRST * 2.0 ** min(failures, 32)), at_least) * self._jitter()
        self._finish(key)
        self.add(key, now + wait)
        return wait

    def waiting(self, now: float) -> int:
        """How many keys are due."""
        return sum(1 for due in self._due.values() if due <= now)

    def __contains__(self, key: K) -> bool:
        return key in self._due or key in self._working

    def _finish(self, key: K) -> None:
        self._working.discard(key)
        if key in self._due:  # added while it was worked on
            heapq.heappush(self._heap, (self._due[key], next(self._order), key))

    def _jitter(self) -> float:
        return 1.0 + JITTER * self._chance()


@dataclass(frozen=True)
class Again:
    """What a reconciler wants of the queue: to be called after `seconds` at the latest; None: only on changes."""

    seconds: float | None = RESYNC_SECONDS


class RetryLater(Exception):
    """A failure that names its own earliest retry, in seconds."""

    def __init__(self, message: str, after: float) -> None:
        super().__init__(message)
        self.after = after


class WorkQueue(Generic[K]):
    """Feeds `workers` tasks from a `Schedule`."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, chance: Callable[[], float] = random.random
    ) -> None:
        self._clock = clock
        self._schedule: Schedule[K] = Schedule(chance)
        self._changed = asyncio.Event()

    def add(self, key: K, after: float = 0.0) -> None:
        """`after`: seconds; less than 0 goes before what is due already. An earlier time that was asked for stays."""
        self._schedule.add(key, self._clock() + after)
        self._changed.set()

    def depth(self) -> int:
        """How many keys are due and wait for a worker."""
        return self._schedule.waiting(self._clock())

    async def run(
        self,
        workers: int,
        reconcile: Callable[[K], Awaitable[Again]],
        on_error: Callable[[K, Exception, float], None],
    ) -> None:
        """Works until cancelled. `on_error` gets the key, the failure and the seconds until the next try."""
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(self._work(reconcile, on_error))

    async def _work(
        self, reconcile: Callable[[K], Awaitable[Again]], on_error: Callable[[K, Exception, float], None]
    ) -> None:
        while True:
            key = await self._next()
            try:
                again = await reconcile(key)
            except Exception as error:
                after = getattr(error, "retry_after", None) or getattr(error, "after", None) or 0.0
                wait = self._schedule.failed(key, self._clock(), after)
                on_error(key, error, wait)
            else:
                self._schedule.done(key, self._clock(), again.seconds)
            finally:
                self._changed.set()

    async def _next(self) -> K:
        while True:
            self._changed.clear()
            now = self._clock()
            key = self._schedule.pop(now)
            if key is not None:
                self._changed.set()  # perhaps there is one for the next worker
                return key
            due = self._schedule.next_due()
            try:
                # Not wait_for: before Python 3.12 it may swallow a cancellation.
                async with asyncio.timeout(None if due is None else max(0.0, due - now)):
                    await self._changed.wait()
            except TimeoutError:
                continue
