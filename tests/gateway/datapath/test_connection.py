"""One connection to a backend, on a real socket: what becomes of it when the backend ends it at a bad moment."""

from __future__ import annotations

import asyncio
import time

from pointsman.gateway.limits import Limits
from pointsman.gateway.upstream.connection import UpstreamConnection


class Watched(asyncio.Protocol):
    """Passes on what happens to a connection, and tells when it is gone."""

    def __init__(self) -> None:
        self.connection = UpstreamConnection(Limits(), lambda connection, now: False, time.monotonic)
        self.gone = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.connection.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        self.connection.data_received(data)

    def eof_received(self) -> None:
        self.connection.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self.connection.connection_lost(exc)
        self.gone.set()


class Owner:
    def __init__(self) -> None:
        self.lost = asyncio.Event()

    def upstream_data(self, connection: UpstreamConnection) -> None:
        raise AssertionError("nothing was sent")

    def upstream_lost(self, connection: UpstreamConnection) -> None:
        self.lost.set()


async def test_a_connection_that_was_lost_before_its_first_use_says_so() -> None:
    """A backend that dies may accept and close before the request is written: the next candidate must be asked, not
    the deadline waited for."""

    async def slam(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    server = await asyncio.start_server(slam, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        async with asyncio.timeout(5):
            _, watched = await asyncio.get_running_loop().create_connection(Watched, "127.0.0.1", port)
            await watched.gone.wait()
            owner = Owner()
            watched.connection.send(owner, b"GET / HTTP/1.1\r\n\r\n")
            await owner.lost.wait()
    finally:
        server.close()
