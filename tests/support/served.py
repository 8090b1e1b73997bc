"""What the servers of the tests share: a thread of their own, ranges, a pace, faults on demand, and a note of what went
out."""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import socket
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from aiohttp import web

_CHUNK = 256 << 10


@dataclass
class Faults:
    """What goes wrong; may be changed while the server runs."""

    fail_gets: int = 0
    """So many of the next answers with bytes are a 500 instead."""
    cut_gets: int = 0
    """So many of the next answers with bytes break off …"""
    cut_after: int = 0
    """… after this many bytes."""
    corrupt: bool = False
    """One byte of each file is wrong."""
    ignore_ranges: bool = False
    """Each file comes whole, whatever range was asked for."""
    api_status: int = 0
    """The API answers with this status."""
    no_validators: bool = False
    """Files come without ETag and Last-Modified."""


@dataclass
class Served:
    """One answered request."""

    path: str
    host: str
    authorization: str
    sent: int = 0
    """Bytes of a file that went out."""


@dataclass
class Pace:
    """A rate for all connections together, in bytes per second; 0: none."""

    rate: float
    _free_at: float = field(default=0.0)

    async def spend(self, count: int) -> None:
        if not self.rate:
            return
        now = time.monotonic()
        self._free_at = max(self._free_at, now - 0.05) + count / self.rate
        if self._free_at > now:
            await asyncio.sleep(self._free_at - now)


class Server:
    """An aiohttp server in a thread of its own while used as a context manager."""

    def __init__(self, *, rate: float = 0, port: int = 0, bind: str = "127.0.0.1") -> None:
        self.port = port
        self.bind = bind
        self.faults = Faults()
        self.pace = Pace(rate)
        self.served: list[Served] = []
        self.signature = secrets.token_hex(4)
        """What a redirect's target demands; another one makes those that were given out expire."""
        self._runner: web.AppRunner | None = None

    def routes(self) -> list[web.RouteDef]:
        """Of the server that is meant."""
        raise NotImplementedError

    @property
    def bytes_served(self) -> int:
        """Bytes of files that went out."""
        return sum(entry.sent for entry in self.served)

    def note(self, request: web.Request) -> Served:
        entry = Served(request.path, request.host, request.headers.get("Authorization", ""))
        self.served.append(entry)
        return entry

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def restart(self) -> None:
        """Breaks off all that is under way, and serves again on the same port."""
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)

    async def _start(self) -> None:
        app = web.Application()
        app.add_routes(self.routes())
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, self.bind, self.port, reuse_address=True).start()
        self.port = self._runner.addresses[0][1]

    async def _stop(self) -> None:
        if self._runner:
            await self._runner.cleanup()


def small_buffer(transport: asyncio.BaseTransport | None) -> None:
    """Keeps what a connection's own end holds back small: it is counted as sent, and has not left the machine."""
    if transport is not None:
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 128 << 10)


async def send_file(
    server: Server, request: web.Request, file: Path, headers: dict[str, str] | None = None
) -> web.StreamResponse:
    """The file, or a range of it, with the server's faults."""
    faults, size = server.faults, file.stat().st_size
    if faults.fail_gets > 0:
        faults.fail_gets -= 1
        return web.Response(status=500)
    start, stop, status, out = 0, size, 200, {"Accept-Ranges": "bytes", **(headers or {})}
    wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
    condition = request.headers.get("If-Range", "")
    if wanted and not faults.ignore_ranges and condition in ("", out.get("ETag", ""), out.get("Last-Modified", "")):
        start, stop, status = int(wanted[1]), min(size, int(wanted[2] or size) + 1), 206
        out["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    response = web.StreamResponse(status=status, headers={**out, "Content-Type": "application/octet-stream"})
    response.content_length = stop - start
    entry = server.note(request)
    small_buffer(request.transport)
    limit = stop - start
    if faults.cut_gets > 0:
        faults.cut_gets -= 1
        limit = min(limit, faults.cut_after)
    with contextlib.suppress(ConnectionError):
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        with file.open("rb") as opened:
            opened.seek(start)
            while entry.sent < limit:
                data = opened.read(min(_CHUNK, limit - entry.sent))
                if faults.corrupt and start + entry.sent == 0:
                    data = bytes([data[0] ^ 1]) + data[1:]
                await server.pace.spend(len(data))
                await response.write(data)
                entry.sent += len(data)
        if start + entry.sent < stop and request.transport:
            request.transport.close()
    return response
