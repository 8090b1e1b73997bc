"""An HTTP proxy on a loopback socket: CONNECT tunnels and whole URLs, with every way to fail.

It knows where the names of a test are (`hosts`), so that a name that only the proxy can resolve shows who resolved it.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from types import TracebackType

from pointsman.domain.proxies import Proxy


@dataclass
class HttpProxy:
    """`async with HttpProxy({"engine.test:443": port}) as proxy`. `mode` is changed freely while it runs."""

    hosts: dict[str, int] = field(default_factory=dict)
    """`host:port` as asked → the port on 127.0.0.1."""
    mode: str = "forward"
    """forward, hang, close, garbage, chatter (bytes into the tunnel), endless (a head without an end), or a status."""
    credentials: str = ""
    """What `Proxy-Authorization` must be; empty: anything."""
    asked: list[str] = field(default_factory=list)
    """Request lines."""
    heads: list[str] = field(default_factory=list)
    port: int = 0
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def __aenter__(self) -> HttpProxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def here(self) -> Proxy:
        return Proxy("127.0.0.1", self.port)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self._talk(reader, writer)
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, rest = head.split("\r\n", 1)
        self.asked.append(line)
        self.heads.append(rest)
        method, target, _ = line.split(" ")
        headers = {k.lower(): v.strip() for k, _, v in (h.partition(":") for h in rest.split("\r\n"))}
        given = headers.get("proxy-authorization", "")
        match self.mode:
            case "hang":
                await reader.read()
                return
            case "close":
                return
            case "garbage":
                writer.write(b"SSH-2.0-proxy\r\n\r\n")
                await reader.read()
                return
            case "endless":
                while True:
                    writer.write(b"x" * 4096)
                    await writer.drain()
        status = int(self.mode) if self.mode.isdigit() else 0
        if self.credentials and given != self.credentials:
            status = 407
        where = target if method == "CONNECT" else target.removeprefix("http://").partition("/")[0]
        port = self.hosts.get(where if ":" in where else f"{where}:80")
        if not status and port is None:
            status = 502
        if status:
            writer.write(f"HTTP/1.1 {status} No\r\nconnection: close\r\ncontent-length: 0\r\n\r\n".encode())
            await writer.drain()
            return
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            if method == "CONNECT":
                writer.write(b"HTTP/1.1 200 Connection established\r\nx-proxy: yes\r\n\r\n")
                if self.mode == "chatter":
                    writer.write(b"hello")
            else:
                path = target.removeprefix(f"http://{where}") or "/"
                kept = [h for h in rest.split("\r\n") if not h.lower().startswith("proxy-")]
                up_writer.write("\r\n".join([f"{method} {path} HTTP/1.1", *kept]).encode("latin-1"))
            await asyncio.gather(_pump(reader, up_writer), _pump(up_reader, writer))
        finally:
            up_writer.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
