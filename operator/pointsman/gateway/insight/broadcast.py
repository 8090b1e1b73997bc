"""`GET /v1/events`: every health change, fallback, change of the table and wish for a pod, as it happens, to any number
of readers.

Decided here: the JSON of an event, and what becomes of a reader that is too slow. Not here: whole snapshots, which need
no predecessor (`reporting.py`).

Each reader has a queue of `QUEUE_LIMIT` events; the oldest give way when it is full, and the reader is told how many it
lost before the next one. Serving is never held up. Nothing is built while nobody listens.
An event names endpoints by address, never by URL, and no secret.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from typing import Any

import msgspec

from pointsman.domain.table import RoutingTable
from pointsman.gateway.insight.events import Event, FellBack, HealthChanged, Wanted
from pointsman.gateway.state import GatewayState

QUEUE_LIMIT = 1000
HEARTBEAT_SECONDS = 15.0
HEARTBEAT = b": still here\n\n"


class Broadcast:
    """The events of one gateway."""

    def __init__(
        self, state: GatewayState, *, heartbeat: float = HEARTBEAT_SECONDS, queue_limit: int = QUEUE_LIMIT
    ) -> None:
        self._state = state
        self._heartbeat = heartbeat
        self._limit = queue_limit
        self._readers: set[_Reader] = set()
        self._unsubscribe: Callable[[], None] | None = None

    async def stream(self) -> AsyncGenerator[bytes]:
        """Frames of server-sent events, the first one (`Hello`) at once, until `close`. Close the iterator when the
        reader is gone."""
        reader = _Reader(self._limit)
        self._readers.add(reader)
        if self._unsubscribe is None:
            self._unsubscribe = self._state.subscribe(self._publish)
        try:
            yield self._frame("Hello", {"gateway": self._state.name, "events": self._state.events})
            while not reader.closed:
                try:
                    await asyncio.wait_for(reader.filled.wait(), self._heartbeat)
                except TimeoutError:
                    yield HEARTBEAT
                    continue
                lost, frames = reader.take()
                if lost:
                    yield self._frame("Lost", {"count": lost})
                if frames:
                    yield b"".join(frames)
        finally:
            self._readers.discard(reader)
            if not self._readers and self._unsubscribe is not None:
                self._unsubscribe()
                self._unsubscribe = None

    def close(self) -> None:
        """Ends every stream."""
        for reader in self._readers:
            reader.close()

    def _publish(self, event: Event) -> None:
        frame = self._frame(*event_body(event))
        for reader in self._readers:
            reader.put(frame)

    def _frame(self, kind: str, body: dict[str, Any]) -> bytes:
        whole = {"kind": kind, "at": self._state.unix(self._state.clock()), **body}
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), msgspec.json.encode(whole))


class _Reader:
    """One reader's queue. The oldest give way to the newest, so that what is lost is lost in one place: before the next
    event."""

    def __init__(self, limit: int) -> None:
        self._frames: deque[bytes] = deque()
        self._limit = limit
        self._lost = 0
        self.closed = False
        self.filled = asyncio.Event()

    def put(self, frame: bytes) -> None:
        if len(self._frames) >= self._limit:
            self._frames.popleft()
            self._lost += 1
        self._frames.append(frame)
        self.filled.set()

    def take(self) -> tuple[int, list[bytes]]:
        """How many were lost, and then what there is."""
        lost, frames = self._lost, list(self._frames)
        self._lost = 0
        self._frames.clear()
        self.filled.clear()
        return lost, frames

    def close(self) -> None:
        self.closed = True
        self.filled.set()


def event_body(event: Event) -> tuple[str, dict[str, Any]]:
    """An event's kind and what it says; `at`, in Unix seconds, where the event knows better than the clock."""
    match event:
        case HealthChanged():
            return "HealthChanged", {
                "at": event.at,
                "backend": event.backend,
                "endpoint": event.address,
                "old": event.old.value,
                "new": event.new.value,
                "reason": event.reason,
                "message": event.message,
            }
        case FellBack():
            e = event.event
            return "FellBack", {
                "at": e.at,
                "route": event.route,
                "from": e.from_backend,
                "to": e.to_backend,
                "reason": e.reason,
                "requestId": e.request_id,
            }
        case Wanted():
            return "Wanted", {"backend": event.backend}
        case _:
            return "TableChanged", _table(event.table)


def _table(table: RoutingTable) -> dict[str, Any]:
    return {
        "backends": {name: b.generation for name, b in table.backends.items()},
        "routes": {name: r.generation for name, r in table.routes.items()},
    }
