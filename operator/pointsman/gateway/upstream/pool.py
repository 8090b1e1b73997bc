"""Idle connections per endpoint, and the part of a request that never changes for it.

Decided here: which idle connection is taken, and how old it may be. A change of address, CA bundle or credential makes
a new pool: nothing of the old one is used again. A dial to an endpoint that leaves ends at once: the address of a pod
that is gone answers nothing, not even with a refusal.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pointsman import __version__
from pointsman.domain.table import Backend, Endpoint
from pointsman.domain.verdict import Why
from pointsman.gateway.limits import Limits
from pointsman.gateway.upstream.connection import UpstreamConnection
from pointsman.gateway.upstream.dialer import Dialer, DialFailed, Way
from pointsman.gateway.upstream.known_head import KnownHeads


class EndpointPool:
    """Connections to one endpoint, the freshest taken first."""

    __slots__ = (
        "_clock", "_dialer", "_dials", "_gone", "_headers", "_heads", "_idle", "_known", "_limits", "_origin",
        "_stream_heads",
        "_way", "closed", "endpoint",
    )  # fmt: skip

    def __init__(
        self, backend: Backend, endpoint: Endpoint, dialer: Dialer, limits: Limits, clock: Callable[[], float]
    ) -> None:
        self.endpoint = endpoint
        self._way = dialer.way(backend, endpoint)
        self._headers = _static_headers(backend, endpoint, self._way)
        # A proxy for http reads the whole URL (RFC 9112, 3.2.2); one for https sees nothing of it.
        self._origin = f"http://{backend.host_header or endpoint.address}" if self._way.asks_proxy else ""
        self._heads: dict[str, bytes] = {}
        self._stream_heads: dict[str, bytes] = {}
        self.closed = False
        self._gone = False
        self._dialer = dialer
        self._limits = limits
        self._clock = clock
        self._idle: list[UpstreamConnection] = []
        self._known = KnownHeads()
        self._dials: set[asyncio.Task[UpstreamConnection]] = set()

    def leads_to(self, backend: Backend, endpoint: Endpoint) -> bool:
        """Would a new pool for these be the same?"""
        way = self._dialer.way(backend, endpoint)
        same = self.endpoint == endpoint and self._way == way
        return same and self._headers == _static_headers(backend, endpoint, way)

    def head(self, path: str, stream: bool) -> bytes:
        """Request line and headers for a path of the API, but those of one request."""
        heads = self._stream_heads if stream else self._heads
        head = heads.get(path)
        if head is None:
            accept = b"text/event-stream" if stream else b"application/json"
            line = f"POST {self._origin}{self.endpoint.base_path}{path} HTTP/1.1\r\n".encode("latin-1")
            head = heads[path] = line + self._headers + b"accept: %b\r\n" % accept
        return head

    def asking(self, method: str, target: str) -> bytes:
        """The same for another method; `target` is a path of the API with its query."""
        line = f"{method} {self._origin}{self.endpoint.base_path}{target} HTTP/1.1\r\n".encode("latin-1")
        return line + self._headers + b"accept: application/json, text/event-stream\r\n"

    def take(self, now: float) -> UpstreamConnection | None:
        idle = self._idle
        while idle:
            connection = idle.pop()
            if connection.expires > now and not connection.closed:
                return connection
            connection.close()
        return None

    async def dial(self, timeout: float) -> UpstreamConnection:
        """Raises `DialFailed`."""
        if self._gone:
            raise DialFailed(Why.GONE)
        task = asyncio.ensure_future(self._dialer.dial(self._way, timeout, self._fresh))
        self._dials.add(task)
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError:
            task.cancel()
            raise
        finally:
            self._dials.discard(task)
        if task.cancelled():
            raise DialFailed(Why.GONE)
        return task.result()

    def _fresh(self) -> UpstreamConnection:
        return UpstreamConnection(self._limits, self.give_back, self._clock, self._known)

    def give_back(self, connection: UpstreamConnection, now: float) -> bool:
        """False when the pool has no use for it."""
        limits = self._limits
        idle = self._idle
        if self.closed or len(idle) >= limits.pool_idle_connections:
            return False
        connection.expires = min(now + limits.pool_idle_seconds, connection.created + limits.pool_age_seconds)
        idle.append(connection)
        return True

    def sweep(self, now: float) -> None:
        """Closes what was idle for too long."""
        kept = []
        for connection in self._idle:
            if connection.expires > now and not connection.closed:
                kept.append(connection)
            else:
                connection.close()
        self._idle = kept

    def close(self, *, gone: bool) -> None:
        """Keeps no connection any more. `gone`: the endpoint itself is, so dials to it end as well."""
        self.closed = True
        self._gone = gone
        for connection in self._idle:
            connection.close()
        self._idle.clear()
        if gone:
            for task in self._dials:
                task.cancel()


def _static_headers(backend: Backend, endpoint: Endpoint, way: Way) -> bytes:
    """The allow-list of headers to a backend: these, and the request id and trace of the request itself."""
    lines = [
        f"host: {backend.host_header or endpoint.address}",
        "content-type: application/json",
        "accept-encoding: identity",
        f"user-agent: pointsman/{__version__}",
    ]
    if way.asks_proxy and way.proxy is not None and way.proxy.authorization:
        lines.append(f"proxy-authorization: {way.proxy.authorization}")
    if backend.credential is not None:
        lines.append(f"authorization: Bearer {backend.credential.value}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n"
