"""Deadlines of many connections with few timers.

Items carry their own `deadline`; moving it later costs an assignment, for an item is looked at only when its slot comes
up. Precision: one tick. Decided here: nothing but when `on_deadline` is called.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from typing import Protocol

TICK_SECONDS = 0.01


class Timed(Protocol):
    deadline: float
    """By the wheel's clock; infinity for none."""
    slot: int
    """The wheel's own: where it has filed the item; 0 when nowhere."""

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
        if deadline == float("inf"):
            return
        slot = int(deadline / TICK_SECONDS) + 1
        if not item.slot:
            self._file(item, slot)
        elif slot < item.slot:
            self._unfile(item)
            self._file(item, slot)

    def forget(self, item: Timed) -> None:
        if item.slot:
            self._unfile(item)

    def _unfile(self, item: Timed) -> None:
        bucket = self._buckets.get(item.slot)
        if bucket is not None:
            bucket.discard(item)
        item.slot = 0

    def _file(self, item: Timed, slot: int) -> None:
        item.slot = slot
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
                item.slot = 0
                if item.deadline <= now:
                    item.on_deadline(now)
                elif item.deadline != float("inf"):
                    self._file(item, int(item.deadline / TICK_SECONDS) + 1)
        if self._order:
            self._schedule(self._order[0])
