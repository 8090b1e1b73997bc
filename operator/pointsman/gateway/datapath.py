"""What all requests of a gateway share: its state, its connections, what it has learnt about backends."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from ssl import SSLContext

from pointsman.dialects.openai import Complaint
from pointsman.domain.table import Backend, Target
from pointsman.domain.verdict import Verdict
from pointsman.gateway.dialer import Dialer, default_tls
from pointsman.gateway.events import Event, RequestRecord, TableChanged
from pointsman.gateway.exchange import Exchange
from pointsman.gateway.limits import Limits
from pointsman.gateway.pool import Pools
from pointsman.gateway.state import GatewayState
from pointsman.gateway.wheel import Wheel


class DataPath:
    """Made within a running event loop."""

    def __init__(
        self,
        state: GatewayState,
        *,
        limits: Limits | None = None,
        tls: Callable[[], SSLContext] = default_tls,
    ) -> None:
        self.state = state
        self.limits = limits or Limits()
        self.dialer = Dialer(state.clock, tls)
        self.pools = Pools(self.dialer, self.limits, state.clock)
        self.wheel = Wheel(asyncio.get_running_loop(), state.clock)
        self.draining = False
        self.active: set[Exchange] = set()
        self.bodies = 0
        """Bytes of request bodies held now."""
        self._no_usage: dict[str, int] = {}
        self._served_by: dict[tuple[str, str], bytes] = {}
        self._id_prefix = os.urandom(6).hex()
        self._ids = 0
        self._unsubscribe = state.subscribe(self._on_event)
        self.pools.start(asyncio.get_running_loop())

    def close(self) -> None:
        self._unsubscribe()
        self.pools.close()

    def new_id(self) -> bytes:
        """A request id that no other gateway gives."""
        self._ids += 1
        return b"req-%b-%x" % (self._id_prefix.encode(), self._ids)

    def asks_usage(self, backend: Backend) -> bool:
        """False for a backend that once refused to be asked for the usage of a stream, until its spec changes."""
        return not self._no_usage or self._no_usage.get(backend.name) != backend.generation

    def no_usage(self, backend: Backend) -> None:
        self._no_usage[backend.name] = backend.generation

    def served_by(self, target: Target) -> bytes:
        """The header lines that say who served."""
        key = (target.backend.name, target.model)
        lines = self._served_by.get(key)
        if lines is None:
            lines = f"x-pointsman-backend: {target.backend.name}\r\nx-pointsman-model: {target.model}\r\n".encode()
            self._served_by[key] = lines
        return lines

    def finished(self, exchange: Exchange, record: RequestRecord) -> None:
        self.active.discard(exchange)
        self.state.meter.request_finished(record)
        if self.state.access_log is not None:
            self.state.access_log(record)

    def complained(self, request_id: bytes, complaint: Complaint) -> None:
        """A request was refused before it reached a route."""
        record = RequestRecord(
            request_id.decode("latin-1"), "", "", complaint.status, False, 0.0, 0, "", Verdict.CALLER.value,
            complaint.code or "", None, 0, None, None,
        )  # fmt: skip
        self.state.meter.request_started()
        self.state.meter.request_finished(record)
        if self.state.access_log is not None:
            self.state.access_log(record)

    def _on_event(self, event: Event) -> None:
        if isinstance(event, TableChanged):
            backends = event.table.backends
            self.pools.keep(frozenset(e.key for b in backends.values() for e in b.endpoints))
            self._no_usage = {n: g for n, g in self._no_usage.items() if n in backends}
            self._served_by.clear()
