"""Making connections: names resolved, addresses tried in turn, TLS verified.

Decided here: which address is tried when, and which fault a failed dial is. Not here: whether a fault counts.

Names are looked up off the loop, answers kept for `DNS_SECONDS` and served stale when a later look-up fails: an outage
of the resolver is no outage of the backend.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass

from pointsman.domain.verdict import Why
from pointsman.gateway.upstream.connection import UpstreamConnection

DNS_SECONDS = 30.0
ADDRESS_MIN_SECONDS = 0.25
"""What one of several addresses gets at least."""


class DialFailed(Exception):
    def __init__(self, why: Why) -> None:
        super().__init__(why.value)
        self.why = why


@dataclass
class _Resolved:
    addresses: tuple[str, ...]
    until: float


def default_tls() -> ssl.SSLContext:
    """Verifies certificates and names, by the system's roots (or SSL_CERT_FILE)."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


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
            task.add_done_callback(lambda _: self._asking.pop(host, None))
        if known is not None:
            # Stale is better than late: the look-up goes on beside the request.
            task.add_done_callback(lambda t: t.cancelled() or t.exception())
            return known.addresses
        return await asyncio.shield(task)

    def prefer(self, host: str, address: str) -> None:
        """`address` just worked: it goes first next time."""
        known = self._known.get(host)
        if known is not None and known.addresses[0] != address and address in known.addresses:
            known.addresses = (address, *(a for a in known.addresses if a != address))

    async def _ask(self, host: str) -> tuple[str, ...]:
        addresses = await self.lookup(host)
        self._known[host] = _Resolved(addresses, self._clock() + self.fresh_seconds)
        return addresses


class Dialer:
    def __init__(self, clock: Callable[[], float], tls: Callable[[], ssl.SSLContext] = default_tls) -> None:
        self._clock = clock
        self.resolver = Resolver(clock)
        self._make_tls = tls
        self._tls: ssl.SSLContext | None = None

    async def dial(
        self, host: str, port: int, tls: bool, timeout: float, factory: Callable[[], UpstreamConnection]
    ) -> UpstreamConnection:
        """Raises `DialFailed`."""
        deadline = self._clock() + timeout
        try:
            async with asyncio.timeout(timeout):
                addresses = await self.resolver.addresses(host)
        except TimeoutError:
            raise DialFailed(Why.DNS) from None
        except OSError:
            raise DialFailed(Why.DNS) from None
        failed = Why.CONNECT_TIMEOUT
        for n, address in enumerate(addresses):
            left = deadline - self._clock()
            if left <= 0:
                break
            share = max(left / (len(addresses) - n), min(left, ADDRESS_MIN_SECONDS))
            try:
                async with asyncio.timeout(share):
                    connection = await self._connect(host, address, port, tls, factory)
            except (OSError, ssl.SSLError) as e:
                failed = _why(e)
                continue
            if n:
                self.resolver.prefer(host, address)
            return connection
        raise DialFailed(failed)

    async def _connect(
        self, host: str, address: str, port: int, tls: bool, factory: Callable[[], UpstreamConnection]
    ) -> UpstreamConnection:
        loop = asyncio.get_running_loop()
        if not tls:
            transport, connection = await loop.create_connection(factory, address, port)
        else:
            if self._tls is None:
                self._tls = self._make_tls()
            transport, connection = await loop.create_connection(
                factory, address, port, ssl=self._tls, server_hostname=host
            )
        sock = transport.get_extra_info("socket")
        if sock is not None:
            # A peer that vanished without a word must not hold a stream for ever.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return connection


async def _getaddrinfo(host: str) -> tuple[str, ...]:
    found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(info[4][0]) for info in found))


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _why(error: Exception) -> Why:
    if isinstance(error, ssl.SSLError | ssl.CertificateError):
        return Why.TLS
    if isinstance(error, ConnectionRefusedError):
        return Why.REFUSED
    if isinstance(error, TimeoutError):
        return Why.CONNECT_TIMEOUT
    if isinstance(error, socket.gaierror):
        return Why.DNS
    if isinstance(error, OSError) and error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EADDRNOTAVAIL):
        return Why.UNREACHABLE
    return Why.RESET
