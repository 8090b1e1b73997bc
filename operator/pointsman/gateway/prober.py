"""Cheap checks of every endpoint outside traffic: one task each, on connections of their own.

Decided here: what is asked of which engine, and what the answer says about the endpoint (`check_of`). Not here: what
that does to its health (`domain/health.py`).

- Ollama: `/api/version`, then `/api/tags`: which models are there.
- External: the list of models, with the backend's credential. What it lists proves nothing about a model (many list
  only some); 404 and 405 mean that the server does not know the path, not that it is ill.

A new endpoint, and one whose backend changed, is checked at once, afterwards every `probe.interval` ± 10 %. The load of
an idle gateway is endpoints / interval checks a second.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import msgspec
from aiohttp.abc import AbstractResolver, ResolveResult

from pointsman.api.backend import Engine
from pointsman.domain.book import missing_from
from pointsman.domain.health import Probed, ProbeOutcome
from pointsman.domain.table import Backend, Endpoint
from pointsman.domain.verdict import Why
from pointsman.gateway.insight.events import Event, TableChanged
from pointsman.gateway.state import GatewayState
from pointsman.gateway.upstream.dialer import Resolver, default_tls

_log = logging.getLogger(__name__)

LIST_LIMIT = 4 << 20
"""Bytes of the longest list of models that is read."""
_ERROR_LIMIT = 2048
KEEP_CONNECTION_SECONDS = 30.0
"""Longer than the default interval of engines that we run, so that they see one connection, not one a check."""

_O = ProbeOutcome


class Prober:
    """Probes what `state.table` holds until `close`."""

    def __init__(self, state: GatewayState, jitter: Callable[[], float] = random.random) -> None:
        self._state = state
        self._jitter = jitter
        self._tasks: dict[str, tuple[Backend, asyncio.Task[None]]] = {}
        self._session: aiohttp.ClientSession | None = None
        self._unsubscribe: Callable[[], None] = lambda: None

    async def start(self) -> None:
        self._session = open_session(self._state.clock)
        self._unsubscribe = self._state.subscribe(self._follow)
        self._adopt()

    async def close(self) -> None:
        self._unsubscribe()
        tasks = [task for _, task in self._tasks.values()]
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    def _follow(self, event: Event) -> None:
        if isinstance(event, TableChanged):
            self._adopt()

    def _adopt(self) -> None:
        wanted = {endpoint.key: (backend, endpoint) for backend, endpoint in self._state.health.endpoints()}
        for key in [k for k, (backend, _) in self._tasks.items() if k not in wanted or wanted[k][0] != backend]:
            self._tasks.pop(key)[1].cancel()
        for key, (backend, endpoint) in wanted.items():
            if key not in self._tasks:
                self._tasks[key] = (backend, asyncio.create_task(self._keep_probing(backend, endpoint)))

    async def _keep_probing(self, backend: Backend, endpoint: Endpoint) -> None:
        assert self._session is not None
        while True:
            started = self._state.clock()
            try:
                found = await probe(self._session, backend, endpoint, self._state.clock)
            except (
                Exception
            ):  # the boundary: a check that we got wrong must not end the checking, nor hurt the endpoint
                _log.exception("the check of backend %s failed in the gateway itself", backend.name)
            else:
                self._state.observe_probe(endpoint.key, found)
            spent = self._state.clock() - started
            await asyncio.sleep(max(0.05, backend.probe.interval * (0.9 + 0.2 * self._jitter()) - spent))


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


async def probe(
    session: aiohttp.ClientSession, backend: Backend, endpoint: Endpoint, clock: Callable[[], float]
) -> Probed:
    """One check. Never raises but for a bug; `clock` is the one of the health book."""
    started = clock()
    try:
        async with asyncio.timeout(backend.probe.timeout):
            if backend.engine is Engine.OLLAMA:
                found = await _ask(session, backend, endpoint, "/api/version", started, clock)
                if found.outcome is _O.OK:
                    found = await _ask(session, backend, endpoint, "/api/tags", started, clock)
                return found
            return await _ask(session, backend, endpoint, f"{endpoint.base_path}/models", started, clock)
    except TimeoutError:
        message = f"no answer to its check within {backend.probe.timeout:g} s"
        return Probed(_O.TIMED_OUT, started, reason="ProbeTimeout", message=message)
    except (aiohttp.ClientError, OSError, ValueError) as error:
        why, message = explain_error(error)
        return Probed(_O.FAILED, started, reason=why.value, message=message)


async def _ask(
    session: aiohttp.ClientSession,
    backend: Backend,
    endpoint: Endpoint,
    path: str,
    started: float,
    clock: Callable[[], float],
) -> Probed:
    url = f"{'https' if endpoint.tls else 'http'}://{endpoint.address}{path}"
    headers = {}
    if backend.host_header:
        headers["Host"] = backend.host_header
    if backend.credential:
        headers["Authorization"] = f"Bearer {backend.credential.value}"
    async with session.get(url, headers=headers, allow_redirects=False, timeout=_NO_TIMEOUT) as response:
        latency = (clock() - started) * 1000
        body = await read_body(response, LIST_LIMIT if response.status == 200 else _ERROR_LIMIT)
        return check_of(backend, response.status, response.headers, body, started, latency)


_NO_TIMEOUT = aiohttp.ClientTimeout(total=None)
"""`probe` has one of its own around everything."""


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


def check_of(
    backend: Backend, status: int, headers: Mapping[str, str], body: bytes, started: float, latency_ms: float
) -> Probed:
    """What an answer to a check says. Pure but for the date in a `Retry-After`."""
    if status == 200:
        try:
            listed = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            message = "what it answers to its check is not JSON: check the URL"
            return Probed(_O.FAILED, started, reason=Why.NOT_JSON.value, message=message)
        return Probed(_O.OK, started, latency_ms, missing=_missing(backend, listed))
    said = f"it answered {status} to its check"
    if status in (401, 402, 403):
        why = {401: Why.UNAUTHORIZED, 402: Why.PAYMENT, 403: Why.FORBIDDEN}[status]
        return Probed(_O.DENIED, started, latency_ms, reason=why.value, message=said)
    if status in (429, 529):
        wait = _retry_after(headers)
        return Probed(_O.BUSY, started, latency_ms, retry_after=wait, reason=Why.RATE_LIMITED.value, message=said)
    if 300 <= status < 400:
        return Probed(_O.FAILED, started, reason=Why.REDIRECT.value, message=f"{said}, a redirect: check the URL")
    if status == 503 and b"loading" in body.lower():
        return Probed(_O.LOADING, started, latency_ms, reason=Why.LOADING.value, message="it is loading its model")
    if status in (408, 425) or status >= 500:
        return Probed(_O.FAILED, started, reason=Why.SERVER_ERROR.value, message=said)
    return Probed(_O.UNSUPPORTED, started, latency_ms, reason="ProbeUnsupported", message=said)


def _missing(backend: Backend, listed: Any) -> frozenset[str] | None:
    """The models that Ollama's list lacks; None when the answer is no such list."""
    models = listed.get("models") if isinstance(listed, dict) else None
    if not isinstance(models, list):
        return None
    return missing_from(backend, {str(m.get("name") or m.get("model")) for m in models if isinstance(m, dict)})


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of a `Retry-After` (RFC 9110, 10.2.3); None without a valid one."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def explain_error(error: Exception) -> tuple[Why, str]:
    """Why a connection failed, and a sentence for people without URL or credential."""
    match error:
        case aiohttp.ClientConnectorDNSError():
            return Why.DNS, "its host name cannot be resolved"
        case aiohttp.ClientConnectorCertificateError():
            cause = error.certificate_error
            detail = getattr(cause, "verify_message", "") or "it is not valid for this host"
            return Why.TLS, f"its certificate is not trusted: {detail}"
        case aiohttp.ClientSSLError() | ssl.SSLError():
            cause = getattr(error, "os_error", error)
            return Why.TLS, f"TLS failed: {(getattr(cause, 'reason', '') or 'handshake').replace('_', ' ').lower()}"
        case aiohttp.ClientConnectorError():
            return _explain_os_error(error.os_error)
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientPayloadError() | ConnectionResetError():
            return Why.RESET, "it closed the connection"
        case aiohttp.ClientResponseError():
            return Why.BROKEN_HTTP, "it does not answer in HTTP"
        case OSError():
            return _explain_os_error(error)
        case _:
            return Why.UNREACHABLE, "it cannot be reached: check the URL"


def _explain_os_error(error: OSError) -> tuple[Why, str]:
    if isinstance(error, ConnectionRefusedError):
        return Why.REFUSED, "it refuses connections"
    if isinstance(error, ConnectionError):
        return Why.RESET, "it closed the connection"
    return Why.UNREACHABLE, f"it cannot be reached: {(error.strerror or type(error).__name__).lower()}"
