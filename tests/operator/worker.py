"""A worker of ours that only reports: it stands at the address of a pod on paper, with the token of its namespace."""

from __future__ import annotations

import asyncio
import base64
import itertools
import os
from types import TracebackType

from aiohttp import web

from pointsman.domain.report import REPORT_PATH, Report, encode
from pointsman.kube.client import Client
from pointsman.kube.connect import Connection
from pointsman.kube.resources import SECRETS

_numbers = itertools.count(1)


def address() -> str:
    """A loopback address of this test's own."""
    number = next(_numbers)
    return f"127.{64 + os.getpid() % 128}.{number // 250}.{number % 250 + 1}"


class Worker:
    """Serves `GET /v1/report` on `host:port` while used as an async context manager."""

    def __init__(self, host: str, port: int, token: str) -> None:
        self._host, self._port, self._token = host, port, token
        self._report: Report | None = None
        self._changed = asyncio.Condition()
        self.refused = 0
        """Requests without the token."""
        app = web.Application()
        app.add_routes([web.get(REPORT_PATH, self._serve)])
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)

    async def __aenter__(self) -> Worker:
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port).start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    async def say(self, report: Report) -> None:
        async with self._changed:
            self._report = report
            self._changed.notify_all()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != f"Bearer {self._token}":
            self.refused += 1
            return web.Response(status=401)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        sent = None
        while True:
            async with self._changed:
                while self._report is sent:
                    await self._changed.wait()
                sent = self._report
            assert sent is not None
            await response.write(b"data: " + encode(sent) + b"\n\n")


async def token_of(api: Connection, namespace: str) -> str | None:
    """The token that the operator made for the namespace; None while there is none."""
    secret = await Client(api).get(SECRETS, namespace, "pointsman-report")
    return base64.b64decode(secret["data"]["token"]).decode() if secret else None
