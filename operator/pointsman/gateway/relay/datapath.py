"""What all requests of a gateway share: its state, its connections, what it has learnt about backends."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from ssl import SSLContext
from typing import Final

from pointsman.dialects.request import Complaint
from pointsman.domain.proxies import NO_PROXIES, Proxies
from pointsman.domain.table import Backend
from pointsman.domain.verdict import Verdict, Why
from pointsman.gateway.insight.events import Event, HealthChanged, TableChanged
from pointsman.gateway.insight.record import RequestRecord
from pointsman.gateway.limits import Limits
from pointsman.gateway.relay.hold import LOOK_SECONDS
from pointsman.gateway.relay.wheel import Wheel
from pointsman.gateway.state import GatewayState
from pointsman.gateway.upstream.dialer import Dialer
from pointsman.gateway.upstream.roster import Roster
from pointsman.gateway.upstream.trust import default_tls

SWEEP_SECONDS = 5.0
"""How often idle connections that are too old are closed."""

_LOW: Final = [b"%02x" % n for n in range(256)]
"""The last digits of a request's id: formatting them each time costs 0.1 µs more."""


class DataPath:
    """Made within a running event loop."""

    def __init__(
        self,
        state: GatewayState,
        *,
        limits: Limits | None = None,
        tls: Callable[[], SSLContext] = default_tls,
        proxies: Proxies = NO_PROXIES,
    ) -> None:
        self.state = state
        self.clock = state.clock
        self.meter = state.meter
        self.health = state.health
        self.limits = limits or Limits()
        self.dialer = Dialer(state.clock, tls, proxies)
        self.roster = self._make_roster()
        self.wheel = Wheel(asyncio.get_running_loop(), state.clock)
        self.leaving = False
        """Every answer ends its connection from now on, and says so: clients must ask elsewhere."""
        self.bodies = 0
        """Bytes of request bodies held now."""
        self.learnt = state.learnt
        self.hedges = 0
        """Attempts that run beside another of the same request."""
        self._look: asyncio.TimerHandle | None = None
        self._no_usage: dict[str, int] = {}
        self._id_prefix = f"req-{os.urandom(6).hex()}-".encode()
        self._id_block = self._id_prefix
        self._ids = 0
        self._unsubscribe = state.subscribe(self._on_event)
        self._timer = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep)

    def close(self) -> None:
        self._unsubscribe()
        self._timer.cancel()
        if self._look is not None:
            self._look.cancel()
        self.roster.close()

    def new_id(self) -> bytes:
        """A request id that no other gateway gives."""
        self._ids = number = self._ids + 1
        low = number & 0xFF
        if not low:
            self._id_block = b"%b%x" % (self._id_prefix, number >> 8)
        return self._id_block + _LOW[low]

    def asks_usage(self, backend: Backend) -> bool:
        """False for a backend that once refused to be asked for the usage of a stream, until its spec changes."""
        return not self._no_usage or self._no_usage.get(backend.name) != backend.generation

    def no_usage(self, backend: Backend) -> None:
        self._no_usage[backend.name] = backend.generation

    def finished(self, record: RequestRecord) -> None:
        self.meter.request_finished(record)
        if self.state.access_log is not None:
            self.state.access_log(record)

    def complained(self, request_id: bytes, complaint: Complaint, operation: str = "") -> None:
        """A request was refused before it reached a route."""
        self._without_route(request_id, operation, complaint.status, Verdict.CALLER.value, complaint.code or "")

    def answered(self, request_id: bytes, operation: str) -> None:
        """A request was answered that needs no route."""
        self._without_route(request_id, operation, 200, Verdict.SUCCESS.value, Why.ANSWERED.value)

    def _without_route(self, request_id: bytes, operation: str, status: int, verdict: str, why: str) -> None:
        record = RequestRecord(
            request_id.decode("latin-1"), "", "", status, False, 0.0, 0, "", verdict, why, None, 0, None, None,
            operation=operation,
        )  # fmt: skip
        self.state.meter.request_started()
        self.state.meter.request_finished(record)
        if self.state.access_log is not None:
            self.state.access_log(record)

    def _on_event(self, event: Event) -> None:
        if isinstance(event, TableChanged):
            backends = event.table.backends
            before, self.roster = self.roster, self._make_roster()
            self.roster.succeed(before)
            self._no_usage = {n: g for n, g in self._no_usage.items() if n in backends}
        if isinstance(event, TableChanged | HealthChanged):
            if len(self.state.waiting):
                self.state.waiting.look()
            if len(self.state.held):
                self.state.held.look(self.state.clock())

    def watch_held(self) -> None:
        """Someone waits for a target to get ready, which nobody may announce."""
        if self._look is None:
            self._look = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look_at_held)

    def _look_at_held(self) -> None:
        self._look = None
        self.state.held.look(self.state.clock())
        if len(self.state.held):
            self.watch_held()

    def _make_roster(self) -> Roster:
        state = self.state
        return Roster(state.table, state.health, self.dialer, self.limits, state.clock)

    def _sweep(self) -> None:
        self.roster.sweep(self.state.clock())
        self._timer = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep)
