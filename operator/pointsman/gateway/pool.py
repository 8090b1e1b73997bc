"""Idle connections per endpoint, and the part of a request that never changes for it.

Decided here: which idle connection is taken, and how old it may be. A change of address, TLS or credential makes a new
pool: nothing of the old one is used again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pointsman import __version__
from pointsman.domain.table import Backend, Endpoint
from pointsman.gateway.dialer import Dialer
from pointsman.gateway.limits import Limits
from pointsman.gateway.upstream import UpstreamConnection


class EndpointPool:
    """Connections to one endpoint, the freshest taken first."""

    __slots__ = ("_clock", "_dialer", "_idle", "_limits", "backend", "closed", "endpoint", "head")

    def __init__(
        self, backend: Backend, endpoint: Endpoint, dialer: Dialer, limits: Limits, clock: Callable[[], float]
    ) -> None:
        self.backend = backend
        self.endpoint = endpoint
        self.head = _static_head(backend, endpoint)
        """Request line and headers but those of one request."""
        self.closed = False
        self._dialer = dialer
        self._limits = limits
        self._clock = clock
        self._idle: list[UpstreamConnection] = []

    def take(self, now: float) -> UpstreamConnection | None:
        idle = self._idle
        while idle:
            connection = idle.pop()
            if connection.usable and self._young(connection, now):
                return connection
            connection.close()
        return None

    async def dial(self, timeout: float) -> UpstreamConnection:
        """Raises `DialFailed`."""
        e = self.endpoint
        return await self._dialer.dial(
            e.host, e.port, e.tls, timeout, lambda: UpstreamConnection(self._limits, self.give_back, self._clock())
        )

    def give_back(self, connection: UpstreamConnection) -> bool:
        """False when the pool has no use for it."""
        now = self._clock()
        if self.closed or len(self._idle) >= self._limits.pool_idle_connections or not self._young(connection, now):
            return False
        connection.idle_since = now
        self._idle.append(connection)
        return True

    def sweep(self, now: float) -> None:
        """Closes what was idle for too long."""
        kept = []
        for connection in self._idle:
            if connection.usable and self._young(connection, now):
                kept.append(connection)
            else:
                connection.close()
        self._idle = kept

    def close(self) -> None:
        self.closed = True
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    def _young(self, connection: UpstreamConnection, now: float) -> bool:
        limits = self._limits
        return (
            now - connection.idle_since < limits.pool_idle_seconds
            and now - connection.created < limits.pool_age_seconds
        )


class Pools:
    """The pools of all endpoints. `sweep` keeps them tidy; nobody else need."""

    SWEEP_SECONDS = 5.0

    def __init__(self, dialer: Dialer, limits: Limits, clock: Callable[[], float]) -> None:
        self._dialer = dialer
        self._limits = limits
        self._clock = clock
        self._pools: dict[str, EndpointPool] = {}
        self._timer: asyncio.TimerHandle | None = None

    def of(self, backend: Backend, endpoint: Endpoint) -> EndpointPool:
        pool = self._pools.get(endpoint.key)
        if pool is not None:
            if pool.backend is backend:
                return pool
            if pool.endpoint == endpoint and pool.head == _static_head(backend, endpoint):
                pool.backend = backend
                return pool
            pool.close()
        pool = self._pools[endpoint.key] = EndpointPool(backend, endpoint, self._dialer, self._limits, self._clock)
        return pool

    def keep(self, keys: frozenset[str]) -> None:
        """Closes the pools of endpoints that are gone; requests in flight there go on."""
        for key in [k for k in self._pools if k not in keys]:
            self._pools.pop(key).close()

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        now = self._clock()
        for pool in self._pools.values():
            pool.sweep(now)
        self._timer = loop.call_later(self.SWEEP_SECONDS, self.start, loop)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.keep(frozenset())


def _static_head(backend: Backend, endpoint: Endpoint) -> bytes:
    """The allow-list of headers to a backend: these, and the request id and trace of the request itself."""
    lines = [
        f"POST {endpoint.base_path}/chat/completions HTTP/1.1",
        f"host: {backend.host_header or endpoint.address}",
        "content-type: application/json",
        "accept-encoding: identity",
        f"user-agent: pointsman/{__version__}",
    ]
    if backend.credential is not None:
        lines.append(f"authorization: Bearer {backend.credential.value}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n"
