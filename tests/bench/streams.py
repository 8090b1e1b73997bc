"""A client that opens streams on sockets of its own, holds them, and leaves them when it likes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from tests.bench.load import PATH, body

SOURCES = tuple(f"127.0.0.{n}" for n in range(10, 18))
"""Where the clients come from: each address has a range of ports of its own."""
_AT_ONCE = 64


class Stream(asyncio.Protocol):
    """`begun` is set once the first token came; it raises ConnectionError when something else did."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._seen = b""
        self.begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if self.begun.done():
            return
        self._seen += data
        if not b"HTTP/1.1 200".startswith(self._seen[:12]):
            head, _, text = self._seen.partition(b"\r\n\r\n")
            self.begun.set_exception(ConnectionError((head.split(b"\r\n")[0] + b" " + text[:150]).decode("latin-1")))
        elif b'" token"' in self._seen:
            self._seen = b""
            self.begun.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True
        if not self.begun.done():
            self.begun.set_exception(ConnectionError(f"closed after {self._seen[:200]!r}"))


def request(model: str = "chat") -> bytes:
    content = body(True, model=model)
    head = f"POST {PATH} HTTP/1.1\r\nhost: gateway\r\ncontent-type: application/json\r\ncontent-length: {len(content)}"
    return head.encode() + b"\r\n\r\n" + content


async def begin(port: int, number: int = 0, model: str = "chat", seconds: float = 30.0) -> Stream:
    """A stream that gave its first token. Raises OSError, and TimeoutError after so many seconds."""
    loop = asyncio.get_running_loop()
    source = SOURCES[number % len(SOURCES)]
    data = request(model)
    _, stream = await loop.create_connection(lambda: Stream(data), "127.0.0.1", port, local_addr=(source, 0))
    try:
        await asyncio.wait_for(stream.begun, seconds)
    except BaseException:
        stream.transport.abort()
        raise
    return stream


async def open_many(port: int, count: int) -> list[Stream]:
    """So many streams that gave their first token, all open. Raises OSError or TimeoutError when one could not be."""
    streams: list[Stream] = []
    numbers = iter(range(count))

    async def opens() -> None:
        for number in numbers:
            streams.append(await begin(port, number))

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(_AT_ONCE):
                group.create_task(opens())
    except* (OSError, TimeoutError) as errors:
        close(streams)
        raise OSError(f"{len(streams)} of {count} streams opened: {errors.exceptions[0]}") from None
    return streams


def close(streams: Sequence[Stream]) -> None:
    """As a client that goes away."""
    for stream in streams:
        stream.transport.abort()
