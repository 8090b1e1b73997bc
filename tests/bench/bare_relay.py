"""The floor: a relay on the same libraries that only forwards. It parses both sides, pools connections, and decides
nothing: no routing, no verdict, no splice, no health, no deadline.

    python -m tests.bench.bare_relay PORT UPSTREAM_PORT
"""

from __future__ import annotations

import asyncio
import sys

import httptools
import uvloop

_idle: list[Upstream] = []


class Upstream(asyncio.Protocol):
    def __init__(self) -> None:
        self.client: Client | None = None
        self.parser = httptools.HttpResponseParser(self)
        self.done = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)
        client = self.client
        if client is not None:
            client.transport.write(data)
            if self.done:
                self.done = False
                self.client = None
                _idle.append(self)

    def on_message_complete(self) -> None:
        self.done = True


class Client(asyncio.Protocol):
    def __init__(self, port: int) -> None:
        self.port = port
        self.parser = httptools.HttpRequestParser(self)
        self.headers: list[bytes] = []
        self.body = b""
        self.url = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self.url = url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append(name + b": " + value)

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        request = b"POST " + self.url + b" HTTP/1.1\r\n" + b"\r\n".join(self.headers) + b"\r\n\r\n" + self.body
        self.headers = []
        self.body = b""
        if _idle:
            self._send(_idle.pop(), request)
        else:
            self.dialing = asyncio.ensure_future(self._dial(request))

    async def _dial(self, request: bytes) -> None:
        _, upstream = await asyncio.get_running_loop().create_connection(Upstream, "127.0.0.1", self.port)
        self._send(upstream, request)

    def _send(self, upstream: Upstream, request: bytes) -> None:
        upstream.client = self
        upstream.transport.write(request)


async def main(port: int, upstream: int) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: Client(upstream), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2])))
