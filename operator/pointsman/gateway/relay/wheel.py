"""Deadlines of many connections with few timers.

Items carry their own `deadline`; moving it later costs an assignment, for an item is looked at only when its slot comes
up. Precision: one tick. Decided here: nothing but when `on_deadline` is called.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from typing import Final, Protocol

TICK_SECONDS: Final = 0.01
NEVER: Final = float("inf")


class Timed(Protocol):
    deadline: float
    """By the wheel's clock; infinity for none."""
    due: float
    """The wheel's own: when it will look at the item; infinity when it has not filed it."""

    def on_deadline(self, now: float) -> None:
        """The deadline is over. The item sets the next one with `Wheel.set`, or is forgotten."""


class Wheel:
    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float]) -> None:
        self._loop = loop
        self._clock = clock
        self._buckets: dict[int, set[Timed]] = {}
        self._order: list[int] = []
        self._timer: asyncio.TimerHandle | None = None
        self._next = 0

    def set(self, item: Timed, deadline: float) -> None:
        item.deadline = deadline
        if deadline < item.due:
            self.forget(item)
            self._file(item, int(deadline / TICK_SECONDS) + 1)

    def forget(self, item: Timed) -> None:
        if item.due != NEVER:
            bucket = self._buckets.get(round(item.due / TICK_SECONDS))
            if bucket is not None:
                bucket.discard(item)
            item.due = NEVER

    def _file(self, item: Timed, slot: int) -> None:
        item.due = slot * TICK_SECONDS
        bucket = self._buckets.get(slot)
        if bucket is None:
            bucket = self._buckets[slot] = set()
            heapq.heappush(self._order, slot)
            if self._timer is None or slot < self._next:
                self._schedule(slot)
        bucket.add(item)

    def _schedule(self, slot: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next = slot
        self._timer = self._loop.call_later(max(0.0, slot * TICK_SECONDS - self._clock()), self._turn)

    def _turn(self) -> None:
        self._timer = None
        now = self._clock()
        while self._order and self._order[0] * TICK_SECONDS <= now:
            for item in self._buckets.pop(heapq.heappop(self._order), ()):
                item.due = NEVER
                if item.deadline <= now:
                    item.on_deadline(now)
                elif item.deadline != NEVER:
                    self._file(item, int(item.deadline / TICK_SECONDS) + 1)
        if self._order:
            self._schedule(self._order[0])
