"""When a gateway's report goes out to those who subscribed: changes at once, figures seldom, a heartbeat always.

Decided here: the moments. Not here: what a report says (`state.report_snapshot`, `domain/report.py`) and who may read
it (`admin.py`).

- A change of an endpoint's state or of the table goes out within `GATHER_SECONDS` (changes that come together go out
  together).
- Fallbacks, latencies and requests in flight go out once in `FIGURES_SECONDS` at most.
- With more than 100 endpoints both take longer, in proportion: reporting costs the same share of a core.
- Without a change, the snapshot is repeated every `HEARTBEAT_SECONDS`.
Nothing is built while nobody listens.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable

import msgspec

from pointsman.domain.report import HEARTBEAT_SECONDS, GatewayReport, encode
from pointsman.gateway.insight.events import Event, FellBack
from pointsman.gateway.state import GatewayState

GATHER_SECONDS = 0.02
FIGURES_SECONDS = 1.0
_SMALL = 100
"""Endpoints of a report."""


class Reports:
    """The reports of one gateway for any number of subscribers."""

    def __init__(self, state: GatewayState, *, heartbeat: float = HEARTBEAT_SECONDS) -> None:
        self._state = state
        self._heartbeat = heartbeat
        self._closed = False
        self._readers: set[asyncio.Event] = set()

    async def stream(self) -> AsyncGenerator[bytes]:
        """Encoded reports, the first at once, until `close`. Close the iterator when the reader is gone."""
        changed = asyncio.Event()
        self._readers.add(changed)
        unsubscribe = self._state.subscribe(_waker(changed))
        last: GatewayReport | None = None
        sent = 0.0
        try:
            while not self._closed:
                report = self._state.report_snapshot()
                now = time.monotonic()
                if last is None or _without_time(report) != last or now - sent >= self._heartbeat:
                    yield encode(report)
                    last, sent = _without_time(report), now
                size = max(1.0, sum(len(b.endpoints) for b in report.backends) / _SMALL)
                try:
                    await asyncio.wait_for(changed.wait(), min(size * FIGURES_SECONDS, self._heartbeat))
                    await asyncio.sleep(size * GATHER_SECONDS)
                except TimeoutError:
                    pass
                changed.clear()
        finally:
            unsubscribe()
            self._readers.discard(changed)

    def close(self) -> None:
        """Ends every stream."""
        self._closed = True
        for changed in self._readers:
            changed.set()


def _waker(changed: asyncio.Event) -> Callable[[Event], None]:
    def wake(event: Event) -> None:
        if not isinstance(event, FellBack):  # these may come with every request: they wait for the next second
            changed.set()

    return wake


def _without_time(report: GatewayReport) -> GatewayReport:
    return msgspec.structs.replace(report, at=0.0)
