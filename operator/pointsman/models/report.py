"""A pull's report over HTTP: `GET /v1/report`, server-sent events of whole snapshots, and `/healthz`.

Decided here: when a snapshot is sent (at once when something but a figure changes, figures at most each second, a
heartbeat otherwise) and who may read (the bearer of the token). The report's shape: `domain/report.py`.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from types import TracebackType

from aiohttp import web

from pointsman.domain.report import HEARTBEAT_SECONDS, REPORT_PATH, PullProgress, PullReport, encode

FIGURES_SECONDS = 1.0
_SHUTDOWN_SECONDS = 0.5


def _gist(progress: PullProgress) -> tuple[str, str, int, str, str]:
    """What is told at once when it changes; the rest are figures."""
    return progress.state, progress.digest, progress.total_bytes, progress.reason, progress.message


class ReportServer:
    """Serves one pull's report while used as an async context manager."""

    def __init__(self, source: str, token: str, *, host: str | None = None, port: int = 0) -> None:
        """`host=None` listens on all addresses; port 0 takes any free one. Raises `ValueError` without a token."""
        if not token:
            raise ValueError("a report needs a token")
        self._expected = f"Bearer {token}".encode()
        self._source = source
        self._host = host
        self.port = port
        """The port in use, once started."""
        self._progress = PullProgress(state="Pulling")
        self._version = 0
        self._final = False
        self._changed = asyncio.Condition()
        self._delivered = asyncio.Event()
        app = web.Application()
        app.add_routes([web.get(REPORT_PATH, self._report), web.get("/healthz", _healthz)])
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS)

    async def __aenter__(self) -> ReportServer:
        """Raises `OSError` when the port is taken."""
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    async def publish(self, progress: PullProgress, *, final: bool = False) -> None:
        """The newest state; after a `final` one each stream ends."""
        async with self._changed:
            self._progress = progress
            self._final = final
            self._version += 1
            self._changed.notify_all()

    async def settle(self, seconds: float) -> bool:
        """Waits until a subscriber has the final report, at most this long. False when none has."""
        try:
            async with asyncio.timeout(seconds):
                await self._delivered.wait()
        except TimeoutError:
            return False
        return True

    async def _report(self, request: web.Request) -> web.StreamResponse:
        if not hmac.compare_digest(request.headers.get("Authorization", "").encode(), self._expected):
            return web.Response(status=401, headers={"WWW-Authenticate": "Bearer"}, text="a bearer token is needed\n")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        await response.prepare(request)
        while True:
            sent, version, final, at = self._progress, self._version, self._final, time.monotonic()
            report = PullReport(source=self._source, progress=sent, at=time.time())
            try:
                await response.write(b"data: " + encode(report) + b"\n\n")
                if final:
                    await response.write_eof()
                    self._delivered.set()
                    return response
            except ConnectionError:
                return response  # the reader is gone; it comes back if it wants more
            await self._news(sent, version, at)

    async def _news(self, sent: PullProgress, version: int, at: float) -> None:
        """Returns when the next snapshot is due."""
        async with self._changed:
            while not self._final and _gist(self._progress) == _gist(sent):
                wait = FIGURES_SECONDS if self._version != version and self._progress != sent else HEARTBEAT_SECONDS
                left = at + wait - time.monotonic()
                if left <= 0:
                    return
                try:
                    async with asyncio.timeout(left):
                        await self._changed.wait()
                except TimeoutError:
                    return


async def _healthz(_: web.Request) -> web.Response:
    return web.Response(text="ok\n")
