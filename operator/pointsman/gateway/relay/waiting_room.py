"""Requests that wait for a slot of a backend whose endpoints are all at their limit.

Decided here: who gets a slot that becomes free, and who may wait at all. Not here: whether a request waits
(`domain/waiting.py`), for how long, and what it does then (`exchange.py`).

Each backend has one queue, for all routes that lead to it: slots are the backend's. A request that several backends
could serve stands in the queue of each. Consumers take turns. A slot is handed over within the call that frees it: a
request that comes later cannot take it, and only one waiter wakes for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pointsman.domain.fair_queue import FairQueue
from pointsman.domain.sharing import Crew
from pointsman.domain.table import Backend


class Waiter:
    """A request that waits."""

    __slots__ = ()

    def awaits(self) -> tuple[Backend, ...]:
        """What it waits for: one of these."""
        raise NotImplementedError

    def go(self) -> bool:
        """Looks whether it can go on: then it leaves the room, takes a slot and returns True."""
        raise NotImplementedError

    def cold(self) -> bool:
        """Is the target that it waits for still not ready?"""
        raise NotImplementedError

    def warm(self) -> None:
        """It goes on, having left the hold."""
        raise NotImplementedError


class WaitingRoom:
    """`crew` tells which gateways share the limits now."""

    def __init__(self, crew: Callable[[], Crew]) -> None:
        self._crew = crew
        self._queues: dict[str, FairQueue[Waiter]] = {}
        self._places: dict[Waiter, tuple[str, ...]] = {}

    def __len__(self) -> int:
        return len(self._places)

    def waiting(self, backend: str) -> int:
        """Requests that would take a slot of the backend."""
        queue = self._queues.get(backend)
        return len(queue) if queue is not None else 0

    def join(self, waiter: Waiter, consumer: str, backends: Iterable[Backend]) -> bool:
        """False when every queue that it could stand in is full."""
        places = tuple(b.name for b in backends if self.waiting(b.name) < self._room(b))
        for name in places:
            self._queues.setdefault(name, FairQueue()).join(waiter, consumer)
        if places:
            self._places[waiter] = places
        return bool(places)

    def leave(self, waiter: Waiter, *, served: bool = False) -> None:
        for name in self._places.pop(waiter, ()):
            queue = self._queues[name]
            queue.leave(waiter, served=served)
            if not queue:
                del self._queues[name]

    def freed(self, backend: str) -> None:
        """A slot of the backend may be free: whose turn it is takes it."""
        while (queue := self._queues.get(backend)) is not None:
            first = queue.peek()
            if first is None or not first.go():
                return

    def look(self) -> None:
        """Something changed: slots may be free anywhere."""
        for backend in list(self._queues):
            self.freed(backend)

    def _room(self, backend: Backend) -> int:
        capacity = backend.capacity
        if capacity is None or not capacity.queued:
            return 0
        crew = self._crew()
        return sum(crew.share(capacity.queued, e.key) for e in backend.endpoints)
