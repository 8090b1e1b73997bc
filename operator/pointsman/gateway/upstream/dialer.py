"""Making connections: names resolved, addresses tried in turn, proxies passed, TLS verified.

Decided here: which address is tried when, and which fault a failed dial is. Not here: whether a fault counts.

Names are looked up off the loop, answers kept for `DNS_SECONDS` and served stale when a later look-up fails: an outage
of the resolver is no outage of the backend. Through a proxy it is the proxy that resolves the backend's name.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import cast

from pointsman.api.engine import Engine
from pointsman.domain.failure import fault
from pointsman.domain.proxies import NO_PROXIES, Proxies, Proxy
from pointsman.domain.table import Backend, Endpoint
from pointsman.domain.trust import ClientCertificate, Trust
from pointsman.domain.verdict import Why
from pointsman.gateway.upstream.connection import UpstreamConnection
from pointsman.gateway.upstream.trust import BadTls, TlsContexts, default_tls, explain_tls
from pointsman.gateway.upstream.tunnel import ProxyFailed, open_tunnel

DNS_SECONDS = 30.0
ADDRESS_MIN_SECONDS = 0.25
"""What one of several addresses gets at least."""


class DialFailed(Exception):
    def __init__(self, why: Why, sentence: str = "") -> None:
        """`sentence` says it better than the reason alone does."""
        super().__init__(why.value)
        self.why = why
        usual = fault(why)
        self.judged = replace(usual, sentence=sentence) if sentence else usual


@dataclass
class _Resolved:
    addresses: tuple[str, ...]
    until: float
    preferred: str = ""
    """Who worked when one before it did not; empty: as the resolver orders them."""


class Resolver:
    def __init__(self, clock: Callable[[], float], fresh_seconds: float = DNS_SECONDS) -> None:
        self._clock = clock
        self.fresh_seconds = fresh_seconds
        self._known: dict[str, _Resolved] = {}
        self._asking: dict[str, asyncio.Task[tuple[str, ...]]] = {}
        self.lookup = _getaddrinfo

    async def addresses(self, host: str) -> tuple[str, ...]:
        """Raises `OSError` when the name was never resolved and cannot be now."""
        if _is_address(host):
            return (host,)
        known = self._known.get(host)
        if known is not None and self._clock() < known.until:
            return known.addresses
        task = self._asking.get(host)
        if task is None:
            task = self._asking[host] = asyncio.create_task(self._ask(host))
            task.add_done_callback(lambda t: self._asked(host, t))
        if known is not None:
            return known.addresses  # stale is better than late: the look-up goes on beside the request
        return await asyncio.shield(task)

    def _asked(self, host: str, task: asyncio.Task[tuple[str, ...]]) -> None:
        self._asking.pop(host, None)
        if not task.cancelled():
            task.exception()  # whoever waits hears of it; perhaps nobody waits any more

    def prefer(self, host: str, address: str) -> None:
        """`address` just worked: it goes first next time."""
        known = self._known.get(host)
        if known is not None:
            known.preferred = address
            known.addresses = _first(address, known.addresses)

    async def _ask(self, host: str) -> tuple[str, ...]:
        addresses = await self.lookup(host)
        known = self._known.get(host)
        # Else every new answer would put the dead address first again, and a request would pay for it.
        preferred = known.preferred if known is not None else ""
        addresses = _first(preferred, addresses)
        self._known[host] = _Resolved(addresses, self._clock() + self.fresh_seconds, preferred)
        return addresses


@dataclass(frozen=True)
class Way:
    """How a backend's endpoint is reached."""

    host: str
    port: int
    tls: bool = False
    trust: Trust | None = None
    """The authorities that its certificate must come from; None: the system's."""
    shown: ClientCertificate | None = None
    proxy: Proxy | None = None

    @property
    def asks_proxy(self) -> bool:
        """The proxy is sent each request, not asked for a tunnel."""
        return self.proxy is not None and not self.tls


def way_to(backend: Backend, endpoint: Endpoint, proxies: Proxies) -> Way:
    """The proxies of the environment are for what is elsewhere: a pod is never reached through one."""
    e = endpoint
    proxy = proxies.of(e.host, e.port, tls=e.tls) if backend.engine is Engine.EXTERNAL else None
    return Way(e.host, e.port, e.tls, backend.trust, backend.client_certificate, proxy)


class Dialer:
    def __init__(
        self,
        clock: Callable[[], float],
        tls: Callable[[], ssl.SSLContext] = default_tls,
        proxies: Proxies = NO_PROXIES,
    ) -> None:
        self._clock = clock
        self.resolver = Resolver(clock)
        self._contexts = TlsContexts(tls)
        self._proxies = proxies

    def way(self, backend: Backend, endpoint: Endpoint) -> Way:
        return way_to(backend, endpoint, self._proxies)

    async def dial(self, way: Way, timeout: float, factory: Callable[[], UpstreamConnection]) -> UpstreamConnection:
        """Raises `DialFailed`."""
        deadline = self._clock() + timeout
        proxy = way.proxy
        if proxy is not None and proxy.problem:
            raise DialFailed(Why.PROXY, proxy.problem)
        context = self._context(way)
        host, port = (way.host, way.port) if proxy is None else (proxy.host, proxy.port)
        try:
            async with asyncio.timeout(timeout):
                addresses = await self.resolver.addresses(host)
        except (TimeoutError, OSError):
            raise _no_name(proxy) from None
        failed = _too_late(proxy)
        for n, address in enumerate(addresses):
            left = deadline - self._clock()
            if left <= 0:
                break
            share = max(left / (len(addresses) - n), min(left, ADDRESS_MIN_SECONDS))
            try:
                async with asyncio.timeout(share):
                    connection = await _connect(way, address, port, context, factory)
            except (OSError, ssl.SSLError) as e:
                failed = _why(e, way)
                continue
            except ProxyFailed as e:
                raise DialFailed(Why.PROXY, str(e)) from None
            if n:
                self.resolver.prefer(host, address)
            return connection
        raise failed

    def _context(self, way: Way) -> ssl.SSLContext | None:
        if not way.tls:
            return None
        try:
            return self._contexts.of(way.trust, way.shown)
        except BadTls as e:
            raise DialFailed(Why.TLS, str(e)) from None


async def _connect(
    way: Way, address: str, port: int, context: ssl.SSLContext | None, factory: Callable[[], UpstreamConnection]
) -> UpstreamConnection:
    loop = asyncio.get_running_loop()
    if context is None or way.proxy is None:
        name = way.host if context is not None else None
        transport, made = await loop.create_connection(
            lambda: _protocol(factory()), address, port, ssl=context, server_hostname=name
        )
        _keep_alive(transport)
        return cast(UpstreamConnection, made)
    outer, _ = await loop.create_connection(asyncio.Protocol, address, port)
    try:
        _keep_alive(outer)
        await open_tunnel(outer, way.proxy, way.host, way.port)
        connection = factory()
        inner = await loop.start_tls(outer, _protocol(connection), context, server_hostname=way.host)
        if inner is None:
            raise ConnectionResetError
    except BaseException:
        outer.abort()
        raise
    connection.connection_made(inner)
    return connection


def _protocol(connection: UpstreamConnection) -> asyncio.Protocol:
    """It is one by its methods."""
    return cast(asyncio.Protocol, connection)


def _keep_alive(transport: asyncio.Transport) -> None:
    sock = transport.get_extra_info("socket")
    if sock is not None:
        # A peer that vanished without a word must not hold a stream for ever.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


def _first(address: str, addresses: tuple[str, ...]) -> tuple[str, ...]:
    return (address, *(a for a in addresses if a != address)) if address in addresses else addresses


async def _getaddrinfo(host: str) -> tuple[str, ...]:
    found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(info[4][0]) for info in found))


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _no_name(proxy: Proxy | None) -> DialFailed:
    if proxy is None:
        return DialFailed(Why.DNS)
    return DialFailed(Why.PROXY, "the name of its proxy cannot be resolved")


def _too_late(proxy: Proxy | None) -> DialFailed:
    if proxy is None:
        return DialFailed(Why.CONNECT_TIMEOUT)
    return DialFailed(Why.CONNECT_TIMEOUT, "its proxy opened no way to it within its time")


def _why(error: Exception, way: Way) -> DialFailed:
    if isinstance(error, ssl.SSLError):
        return DialFailed(Why.TLS, explain_tls(error, own_bundle=way.trust is not None))
    if isinstance(error, TimeoutError):
        return _too_late(way.proxy)
    refused = isinstance(error, ConnectionRefusedError)
    if way.proxy is not None:
        return DialFailed(Why.PROXY, "its proxy refuses connections" if refused else "its proxy cannot be reached")
    if refused:
        return DialFailed(Why.REFUSED)
    if isinstance(error, socket.gaierror):
        return DialFailed(Why.DNS)
    if isinstance(error, OSError) and error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EADDRNOTAVAIL):
        return DialFailed(Why.UNREACHABLE)
    return DialFailed(Why.RESET)
