"""The backend's end of one connection, and one request as the backend saw it.

A connection sends exactly the bytes that it is told to. It leaves as a dying process does (`cut`: what was sent
arrives, then FIN) or as a vanished one does (`reset`).
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from dataclasses import dataclass, field
from typing import Any

import msgspec


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    reused: bool
    """The connection had carried a request before."""
    answer: str
    """What the backend would say to it."""
    patience: float
    """Seconds that the other side is expected to wait for a silent backend."""
    connection: int = 0
    """Number of the connection, from 1."""
    came: float = field(default_factory=time.monotonic)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    """The other side went away before its answer was complete."""

    @property
    def json(self) -> dict[str, Any]:
        """The body; empty when it is no JSON object."""
        try:
            value = msgspec.json.decode(self.body)
        except msgspec.DecodeError:
            return {}
        return value if isinstance(value, dict) else {}

    @property
    def stream(self) -> bool:
        return bool(self.json.get("stream"))

    @property
    def wants_usage(self) -> bool:
        options = self.json.get("stream_options")
        return isinstance(options, dict) and bool(options.get("include_usage"))

    @property
    def words(self) -> list[str]:
        """The answer in pieces that join to it."""
        first, *rest = self.answer.split(" ")
        return [first, *(f" {word}" for word in rest)]


class Connection:
    """`cut` and `reset` end it; every `send` after that raises `ConnectionError`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int = 1) -> None:
        self.number = number
        """Among the connections of its backend, from 1."""
        self._reader = reader
        self._writer = writer
        self.requests = 0

    @property
    def open(self) -> bool:
        return not self._writer.is_closing()

    async def receive_head(self) -> tuple[str, dict[str, str]]:
        """Request line and headers (lower case). Raises `IncompleteReadError` when the other side is done."""
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *rest = head.strip().split("\r\n")
        return line, {k.strip().lower(): v.strip() for k, _, v in (h.partition(":") for h in rest)}

    async def receive_body(self, headers: dict[str, str]) -> bytes:
        """What follows that head. Raises `IncompleteReadError` when it does not come whole."""
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return await self._chunks()
        return await self._reader.readexactly(int(headers.get("content-length", "0")))

    async def _chunks(self) -> bytes:
        body = b""
        while size := int((await self._reader.readuntil(b"\r\n")).partition(b";")[0], 16):
            body += (await self._reader.readexactly(size + 2))[:-2]
        while await self._reader.readuntil(b"\r\n") != b"\r\n":
            pass
        return body

    async def send(self, data: bytes) -> None:
        if not self.open:
            raise ConnectionResetError("the connection has ended")
        self._writer.write(data)
        await self._writer.drain()

    async def answer(self, status: int, body: bytes, content_type: str = "application/json", *headers: str) -> None:
        """A whole answer with its length."""
        lines = [f"HTTP/1.1 {status} X", f"content-type: {content_type}", f"content-length: {len(body)}", *headers]
        await self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    async def open_stream(self) -> None:
        await self.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")

    async def chunk(self, data: bytes) -> None:
        await self.send(b"%x\r\n%b\r\n" % (len(data), data))

    async def end_stream(self) -> None:
        await self.send(b"0\r\n\r\n")

    async def silence(self) -> None:
        """Until the other side gives up."""
        while await self._reader.read(65536):
            pass
        raise ConnectionResetError("the other side gave up")

    def cut(self) -> None:
        self._writer.close()

    def reset(self) -> None:
        sock = self._writer.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()
