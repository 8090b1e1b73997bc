"""Requests of the gateway's own: checks of endpoints, on connections that no request of a client ever uses.

Decided here: that they go the way that traffic goes (names, authorities, proxies, credential), and which words a failed
connection gets. Not here: what is asked (`cheap.py`, `generation.py`).
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from pointsman.domain.proxies import NO_PROXIES, Proxies
from pointsman.domain.table import Backend, Endpoint
from pointsman.domain.verdict import Why
from pointsman.gateway.upstream.dialer import Resolver, Way, way_to
from pointsman.gateway.upstream.trust import BadTls, TlsContexts, default_tls, explain_tls
from pointsman.gateway.upstream.tunnel import refusal

KEEP_CONNECTION_SECONDS = 30.0
"""Longer than the default interval of engines that we run, so that they see one connection, not one a check."""


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes
    at: float
    """When its head was there, by the client's clock."""


class Unanswered(Exception):
    """No answer came."""

    def __init__(self, why: Why, sentence: str, *, timed_out: bool = False) -> None:
        super().__init__(sentence)
        self.why = why
        self.sentence = sentence
        self.timed_out = timed_out


class ProbeClient:
    """`async with ProbeClient(clock) as client`; `clock` is the one of the health book."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        *,
        proxies: Proxies = NO_PROXIES,
        tls: Callable[[], ssl.SSLContext] = default_tls,
    ) -> None:
        self.clock = clock
        self._proxies = proxies
        self._contexts = TlsContexts(tls)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> ProbeClient:
        self._session = open_session(self.clock)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    @asynccontextmanager
    async def within(self, seconds: float) -> AsyncIterator[None]:
        """Raises `Unanswered` after so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError:
            raise Unanswered(Why.ANSWER_TIMEOUT, f"no answer within {seconds:g} s", timed_out=True) from None

    async def request(
        self,
        backend: Backend,
        endpoint: Endpoint,
        method: str,
        path: str,
        limit: int,
        error_limit: int,
        body: bytes | None = None,
    ) -> Answer:
        """`limit`: bytes that are read of a body under 200, `error_limit` of others. Raises `Unanswered`."""
        assert self._session is not None
        way = way_to(backend, endpoint, self._proxies)
        try:
            async with self._session.request(
                method,
                f"{'https' if endpoint.tls else 'http'}://{endpoint.address}{path}",
                headers=_headers(backend, way, body),
                data=body,
                allow_redirects=False,
                timeout=_NO_TIMEOUT,
                ssl=self._contexts.of(way.trust, way.shown) if way.tls else True,
                **_through(way),
            ) as response:
                at = self.clock()
                data = await read_body(response, limit if response.status == 200 else error_limit)
                return Answer(response.status, response.headers, data, at)
        except TimeoutError:
            raise
        except BadTls as error:
            raise Unanswered(Why.TLS, str(error)) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise explain_error(error, way) from None


_NO_TIMEOUT = aiohttp.ClientTimeout(total=None)
"""`within` has one around everything."""


def _headers(backend: Backend, way: Way, body: bytes | None) -> dict[str, str]:
    headers = {}
    if way.asks_proxy and way.proxy is not None and way.proxy.authorization:
        headers["Proxy-Authorization"] = way.proxy.authorization
    if backend.host_header:
        headers["Host"] = backend.host_header
    if backend.credential:
        headers["Authorization"] = f"Bearer {backend.credential.value}"
    if body is not None:
        headers["Content-Type"] = "application/json"
    return headers


def _through(way: Way) -> dict[str, Any]:
    """What aiohttp wants to know of the proxy."""
    proxy = way.proxy
    if proxy is None:
        return {}
    if proxy.problem:
        raise Unanswered(Why.PROXY, proxy.problem)
    host = f"[{proxy.host}]" if ":" in proxy.host else proxy.host
    out: dict[str, Any] = {"proxy": f"http://{host}:{proxy.port}"}
    if proxy.authorization and way.tls:
        out["proxy_headers"] = {"Proxy-Authorization": proxy.authorization}
    return out


class _StaleResolver(AbstractResolver):
    """Names as the data path resolves them: what was known is used while the resolver is away."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._resolver = Resolver(clock)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in await self._resolver.addresses(host)
        ]

    async def close(self) -> None:
        return


def open_session(clock: Callable[[], float] = time.monotonic) -> aiohttp.ClientSession:
    """Connections for checks: as many as there are endpoints, no cookies, names and certificates as in the data path.
    The caller closes it."""
    connector = aiohttp.TCPConnector(
        limit=0,
        keepalive_timeout=KEEP_CONNECTION_SECONDS,
        resolver=_StaleResolver(clock),
        use_dns_cache=False,
        ssl=default_tls(),
    )
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": "pointsman", "Accept": "application/json", "Accept-Encoding": "identity"},
    )


async def read_body(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """The body; of a longer one than `limit` bytes the beginning, and the connection is closed."""
    parts: list[bytes] = []
    size = 0
    async for part in response.content.iter_any():
        parts.append(part)
        size += len(part)
        if size > limit:
            response.close()
            break
    return b"".join(parts)


def explain_error(error: Exception, way: Way) -> Unanswered:
    """Why a connection failed, in a sentence for people without URL or credential."""
    match error:
        case aiohttp.ClientHttpProxyError():
            return Unanswered(Why.PROXY, refusal(error.status))
        case aiohttp.ClientProxyConnectionError():
            return Unanswered(Why.PROXY, _proxy_words(error.os_error))
        case aiohttp.ClientConnectorDNSError():
            return Unanswered(*_NO_NAME[way.proxy is not None])
        case aiohttp.ClientConnectorCertificateError():
            return Unanswered(Why.TLS, _tls_words(error.certificate_error, way))
        case aiohttp.ClientSSLError():
            return Unanswered(Why.TLS, _tls_words(getattr(error, "os_error", error), way))
        case aiohttp.ClientConnectorError():
            return _explain_os_error(error.os_error)
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientPayloadError() | ConnectionResetError():
            return Unanswered(Why.RESET, "it closed the connection")
        case aiohttp.ClientResponseError():
            return Unanswered(Why.BROKEN_HTTP, "it does not answer in HTTP")
        case OSError():
            return _explain_os_error(error)
        case _:
            return Unanswered(Why.UNREACHABLE, "it cannot be reached: check the URL")


_NO_NAME = {
    False: (Why.DNS, "its host name cannot be resolved"),
    True: (Why.PROXY, "the name of its proxy cannot be resolved"),
}


def _tls_words(error: Exception, way: Way) -> str:
    if isinstance(error, ssl.SSLError):
        return explain_tls(error, own_bundle=way.trust is not None)
    return "TLS failed: the handshake was broken off"


def _proxy_words(error: OSError) -> str:
    return (
        "its proxy refuses connections" if isinstance(error, ConnectionRefusedError) else "its proxy cannot be reached"
    )


def _explain_os_error(error: OSError) -> Unanswered:
    if isinstance(error, ConnectionRefusedError):
        return Unanswered(Why.REFUSED, "it refuses connections")
    if isinstance(error, ConnectionError):
        return Unanswered(Why.RESET, "it closed the connection")
    return Unanswered(Why.UNREACHABLE, f"it cannot be reached: {(error.strerror or type(error).__name__).lower()}")
