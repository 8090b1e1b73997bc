"""A backend that misbehaves exactly as told, on raw sockets.

A behaviour is a coroutine that is given the connection and the request that came; what it sends is what goes out, byte
for byte. `FaultyUpstream` runs a script of them, one per request, the last for ever, and records what it saw.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Seen:
    """One request as the backend saw it."""

    line: str
    headers: dict[str, str]
    body: bytes
    connection: int

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.body)

    @property
    def stream(self) -> bool:
        return bool(self.json.get("stream"))


class Line:
    """The backend's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        self.reader = reader
        self.writer = writer
        self.number = number

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self, status: int = 200, content_type: str = "application/json", *headers: str) -> None:
        lines = [f"HTTP/1.1 {status} X", f"content-type: {content_type}", *headers]
        await self.send("\r\n".join(lines).encode() + b"\r\n\r\n")

    async def answer(
        self, status: int, body: bytes | str, content_type: str = "application/json", *headers: str
    ) -> None:
        data = body.encode() if isinstance(body, str) else body
        lines = [f"HTTP/1.1 {status} X", f"content-type: {content_type}", f"content-length: {len(data)}", *headers]
        await self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + data)

    async def open_stream(self) -> None:
        await self.head(200, "text/event-stream", "transfer-encoding: chunked")

    async def chunk(self, data: bytes) -> None:
        await self.send(b"%x\r\n%b\r\n" % (len(data), data))

    async def event(self, value: object) -> None:
        await self.chunk(event(value))

    async def end_stream(self) -> None:
        await self.send(b"0\r\n\r\n")

    async def silence(self) -> None:
        """Until the other side gives up."""
        while await self.reader.read(65536):
            pass

    def cut(self) -> None:
        """Closes as a dying process does: what was sent arrives, then FIN."""
        self.writer.close()

    def reset(self) -> None:
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Behaviour = Callable[[Line, Seen], Awaitable[None]]


def event(value: object) -> bytes:
    return b"data: " + (value if isinstance(value, bytes) else json.dumps(value).encode()) + b"\n\n"


def delta(content: str | None = None, finish: str | None = None, index: int = 0, **more: object) -> dict[str, object]:
    part: dict[str, object] = dict(more)
    if content is not None:
        part["content"] = content
    return {
        "id": "c1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "served",
        "choices": [{"index": index, "delta": part, "finish_reason": finish}],
    }


ROLE = delta("", role="assistant")
USAGE = {"id": "c1", "choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}}


def completion(content: str | None, finish: str = "stop", **message: object) -> str:
    return json.dumps(
        {
            "id": "c1",
            "object": "chat.completion",
            "created": 1,
            "model": "served",
            "choices": [
                {"index": 0, "message": {"role": "assistant", "content": content, **message}, "finish_reason": finish}
            ],
            "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
        }
    )


def error(message: str, code: str = "", kind: str = "api_error") -> str:
    return json.dumps({"error": {"message": message, "type": kind, "param": None, "code": code or None}})


def says(text: str) -> Behaviour:
    """A good backend that answers `text`, as JSON or word by word."""

    async def behave(line: Line, seen: Seen) -> None:
        if not seen.stream:
            await line.answer(200, completion(text))
            return
        await line.open_stream()
        await line.event(ROLE)
        for word in text.split(" "):
            await line.event(delta(word))
        await line.event(delta(finish="stop"))
        if seen.json.get("stream_options", {}).get("include_usage"):
            await line.event(USAGE)
        await line.event(b"[DONE]")
        await line.end_stream()

    return behave


def answers(status: int, body: str | bytes = "", content_type: str = "application/json", *headers: str) -> Behaviour:
    async def behave(line: Line, seen: Seen) -> None:
        await line.answer(status, body, content_type, *headers)

    return behave


def raw(*pieces: bytes | float | str) -> Behaviour:
    """Sends bytes, waits seconds, or does one of: `cut`, `reset`, `silence`."""

    async def behave(line: Line, seen: Seen) -> None:
        for piece in pieces:
            if isinstance(piece, bytes):
                await line.send(piece)
            elif isinstance(piece, float):
                await asyncio.sleep(piece)
            elif piece == "silence":
                await line.silence()
            else:
                await asyncio.sleep(0.01)
                getattr(line, piece)()

    return behave


def streams(*pieces: object) -> Behaviour:
    """A stream: events (dicts or bytes of data), or one of: `end`, `cut`, `reset`, `silence`, a float to wait,
    `("raw", bytes)` for bytes within a chunk as they are."""

    async def behave(line: Line, seen: Seen) -> None:
        await line.open_stream()
        for piece in pieces:
            match piece:
                case "end":
                    await line.end_stream()
                case "cut" | "reset":
                    await asyncio.sleep(0.02)
                    getattr(line, piece)()
                case "silence":
                    await line.silence()
                case float():
                    await asyncio.sleep(piece)
                case ("raw", bytes() as data):
                    await line.chunk(data)
                case _:
                    await line.event(piece)

    return behave


@dataclass
class FaultyUpstream:
    """Serves on 127.0.0.1. `script` is changed freely while it runs."""

    script: Sequence[Behaviour] = ()
    seen: list[Seen] = field(default_factory=list)
    connections: int = 0
    left: int = 0
    """Connections that ended while a request was being answered, by the other side."""
    port: int = 0
    _server: asyncio.Server | None = None
    _asked: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def start(self, port: int = 0, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> FaultyUpstream:
        self._server = await asyncio.start_server(self._serve, host, port, ssl=tls, limit=64 * 1024 * 1024)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def asked(self) -> None:
        """Until the first request came."""
        await asyncio.wait_for(self._asked.wait(), 5)

    async def stop(self) -> None:
        """Refuses connections from now on, and drops those there are."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        line = Line(reader, writer, self.connections)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self._talk(line)
        finally:
            self._tasks.discard(task)
            with contextlib.suppress(Exception):
                writer.transport.abort()

    async def _talk(self, line: Line) -> None:
        while not line.writer.is_closing():
            head = (await line.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *rest = head.strip().split("\r\n")
            headers = {k.lower(): v.strip() for k, _, v in (h.partition(":") for h in rest)}
            body = await line.reader.readexactly(int(headers.get("content-length", "0")))
            self.seen.append(Seen(first, headers, body, line.number))
            self._asked.set()
            behave = self.script[min(len(self.seen), len(self.script)) - 1]
            try:
                await behave(line, self.seen[-1])
            except ConnectionError:
                self.left += 1
                raise
