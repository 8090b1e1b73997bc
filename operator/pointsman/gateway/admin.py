"""The admin port: alive, ready, figures, what the gateway knows, and its reports.

    GET  /healthz      200 while the process works
    GET  /readyz       200 while requests should be sent here; 503 without a table and while draining
    GET  /metrics      Prometheus text
    GET  /v1/config    where the table comes from and what is wrong with the last reading
    GET  /v1/backends  backends with their endpoints, routes with their targets
    POST /v1/explain   for a request: who would be asked, in which order, and why not the others; `?path=` names the
                       operation where it is not /v1/chat/completions
    POST /v1/drill     treats a backend as down for a while, see `drill.py`
    GET  /v1/events    every health change, fallback and change of the table as it happens, as server-sent events
    GET  /v1/report    the report, as server-sent events

The report wants its bearer token when there is one. A drill wants that token or a caller on the same machine, and JSON
by its content type, which no web page may send across origins. The others are open to whoever may reach the port (in a
cluster: what the NetworkPolicy lets in, and the API server's proxy, by which the command line asks). No answer holds a
secret.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry

from pointsman.dialects.openai_operations import OPERATIONS
from pointsman.dialects.request import Complaint
from pointsman.domain.report import REPORT_PATH
from pointsman.gateway import drill, explaining
from pointsman.gateway.insight import metrics
from pointsman.gateway.insight.broadcast import Broadcast
from pointsman.gateway.insight.reporting import Reports
from pointsman.gateway.sources.source import SourceStatus
from pointsman.gateway.state import GatewayState

DEFAULT_PATH = "/v1/chat/completions"
_OPERATIONS = {"/v1" + operation.path: operation for operation in OPERATIONS}
BODY_LIMIT = 32 << 20
"""Bytes of a request that is to be explained; the data path's replay limit."""
PATIENCE_SECONDS = 10.0
"""A reader of reports that takes nothing for so long may as well subscribe again: it gets a whole snapshot."""
SLOW_READER_SECONDS = 60.0
"""A reader of events would lose what it has not read: it gets longer."""


class Admin:
    """Serves the admin port of one gateway."""

    def __init__(
        self,
        state: GatewayState,
        source: SourceStatus,
        registry: CollectorRegistry,
        reports: Reports,
        *,
        token: str | None = None,
        broadcast: Broadcast | None = None,
    ) -> None:
        self._state = state
        self._source = source
        self._registry = registry
        self._reports = reports
        self._broadcast = broadcast or Broadcast(state)
        self._token = token
        self._runner: web.AppRunner | None = None
        self.draining = False
        """Set it to be unready."""
        self.port = 0
        """The port that is listened on."""

    async def start(self, host: str | None, port: int) -> None:
        """Listens. Raises `OSError` when the address cannot be had."""
        app = web.Application(client_max_size=BODY_LIMIT)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/v1/config", self._config)
        app.router.add_get("/v1/backends", self._backends)
        app.router.add_post("/v1/explain", self._explain)
        app.router.add_post("/v1/drill", self._drill)
        app.router.add_get("/v1/events", self._events)
        app.router.add_get(REPORT_PATH, self._report)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        await site.start()
        self.port = int(self._runner.addresses[0][1])

    async def close(self) -> None:
        self._reports.close()
        self._broadcast.close()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _healthz(self, request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, request: web.Request) -> web.Response:
        if self.draining:
            return web.Response(status=503, text="draining\n")
        if not self._source.loaded:
            return web.Response(status=503, text=f"no table from {self._source.kind} {self._source.place} yet\n")
        return web.Response(text="ok\n")

    async def _metrics(self, request: web.Request) -> web.Response:
        body = metrics.render(self._registry)
        return web.Response(body=body, headers={"Content-Type": metrics.CONTENT_TYPE})

    async def _config(self, request: web.Request) -> web.Response:
        s, table = self._source, self._state.table
        return _json(
            {
                "source": s.kind,
                "place": s.place,
                "loaded": s.loaded,
                "lastReloadSuccessful": s.successful,
                "loadedAt": s.loaded_at,
                "failedAt": s.failed_at or None,
                "reloads": s.reloads,
                "problems": s.problems,
                "backends": len(table.backends),
                "routes": len(table.routes),
                "clashes": [{"route": c.route, "model": c.model, "winner": c.winner} for c in table.clashes],
            }
        )

    async def _backends(self, request: web.Request) -> web.Response:
        report = self._state.report_snapshot()
        table = self._state.table
        backends = []
        for health in report.backends:
            backend = table.backends[health.name]
            backends.append(
                {
                    **_without_zeros(health),
                    "engine": backend.engine.value,
                    "models": sorted(backend.models),
                    "secret": backend.credential.secret if backend.credential else None,
                }
            )
        routes = []
        for route in report.routes:
            routes.append({**_without_zeros(route), "models": table.routes[route.name].models})
        return _json({"gateway": report.gateway, "at": report.at, "backends": backends, "routes": routes})

    async def _explain(self, request: web.Request) -> web.Response:
        operation = _OPERATIONS.get(request.query.get("path", DEFAULT_PATH))
        if operation is None:
            return _problem(400, f"path must be one of {', '.join(_OPERATIONS)}")
        headers = {
            name.lower().encode(): value.encode("utf-8", "surrogateescape") for name, value in request.headers.items()
        }
        found = explaining.explain(self._state, operation, await request.read(), headers)
        if isinstance(found, Complaint):
            return _problem(found.status, found.message)
        return _json(found)

    async def _drill(self, request: web.Request) -> web.Response:
        if not _local(request) and (self._token is None or not _allowed(request, self._token)):
            return _problem(403, "a drill is begun from the same machine, or with the report token")
        if request.content_type != "application/json":
            return _problem(415, "send it with Content-Type: application/json")
        try:
            asked = drill.read(await request.read())
            concerned = drill.begin(self._state, asked)
        except drill.Refused as error:
            return _problem(404 if error.missing else 409, str(error))
        return _json({"backend": asked.backend, "seconds": asked.seconds, "routes": concerned})

    async def _report(self, request: web.Request) -> web.StreamResponse:
        if not _allowed(request, self._token):
            answer = _problem(401, "send the report token: Authorization: Bearer TOKEN")
            answer.headers["WWW-Authenticate"] = "Bearer"
            return answer

        async def frames() -> AsyncGenerator[bytes]:
            async with aclosing(self._reports.stream()) as stream:
                async for report in stream:
                    yield b"data: " + report + b"\n\n"

        return await _streamed(request, frames(), PATIENCE_SECONDS)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        return await _streamed(request, self._broadcast.stream(), SLOW_READER_SECONDS)


async def _streamed(request: web.Request, frames: AsyncGenerator[bytes], patience: float) -> web.StreamResponse:
    """Server-sent events until they end, or the reader is gone or takes nothing for `patience` seconds."""
    response = web.StreamResponse(
        headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    )
    await response.prepare(request)
    async with aclosing(frames):
        async for frame in frames:
            try:
                await asyncio.wait_for(response.write(frame), patience)
            except (ConnectionError, TimeoutError):
                break  # it may subscribe again
    return response


def _allowed(request: web.Request, token: str | None) -> bool:
    given = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
    return token is None or hmac.compare_digest(given, f"Bearer {token}".encode())


def _local(request: web.Request) -> bool:
    try:
        return ipaddress.ip_address(request.remote or "").is_loopback
    except ValueError:
        return False


def _without_zeros(value: msgspec.Struct) -> dict[str, Any]:
    """As the report has it: fields at their defaults are left out."""
    built = msgspec.to_builtins(value)
    assert isinstance(built, dict)
    return built


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(value) + b"\n", status=status, content_type="application/json")


def _problem(status: int, message: str) -> web.Response:
    return _json({"error": {"message": message}}, status)
