"""An engine that answers as a test wants: real HTTP on a loopback socket, replies set by path.

A reply is a status with headers and body, or a coroutine function that gets the request. What was asked is recorded.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from aiohttp import web

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Reply:
    status: int = 200
    body: Any = field(default_factory=dict)
    """Bytes and text as they are, else as JSON."""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Asked:
    path: str
    headers: Mapping[str, str]


class Engine:
    """`async with Engine({"/v1/models": Reply(body={"data": []})}) as engine:`; `engine.port` is where it listens."""

    def __init__(self, replies: Mapping[str, Reply | Answer], tls: ssl.SSLContext | None = None, port: int = 0) -> None:
        self.replies = dict(replies)
        self.asked: list[Asked] = []
        self.port = port
        self._tls = tls
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Engine:
        app = web.Application(client_max_size=64 << 20)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self._tls).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(Asked(request.path, dict(request.headers)))
        reply = self.replies.get(request.path)
        if reply is None:
            return web.json_response({"error": "not found"}, status=404)
        if not isinstance(reply, Reply):
            return await reply(request)
        if isinstance(reply.body, str | bytes):
            body = reply.body.encode() if isinstance(reply.body, str) else reply.body
            return web.Response(status=reply.status, body=body, headers=reply.headers)
        return web.json_response(reply.body, status=reply.status, headers=reply.headers)


async def until(condition: Callable[[], Any], seconds: float = 30.0, what: str = "the condition") -> Any:
    """Waits until `condition()` is true and returns its value. Raises `TimeoutError`."""
    deadline = time.monotonic() + seconds
    while True:
        if value := condition():
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come within {seconds:g} s")
        await asyncio.sleep(0.005)
