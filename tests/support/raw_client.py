"""A client on a raw socket that sees exactly what came: status, headers, body, and whether it ended as it should."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Got:
    status: int
    headers: dict[str, str]
    body: bytes = b""
    whole: bool = True
    """The body ended as its framing says."""
    raw_headers: list[str] = field(default_factory=list)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def message(self) -> str:
        return str(self.json["error"]["message"])

    @property
    def events(self) -> list[Any]:
        """The data of each event, decoded but for `[DONE]`."""
        found: list[Any] = []
        for text in self.body.decode().replace("\r\n", "\n").split("\n\n"):
            if not text.startswith(("data:", "event:")):
                continue
            data = "\n".join(line[5:].strip() for line in text.split("\n") if line.startswith("data:"))
            if data:
                found.append(data if data == "[DONE]" else json.loads(data))
        return found

    @property
    def text(self) -> str:
        """The content of all deltas."""
        return "".join(
            c["delta"].get("content") or "" for e in self.events if isinstance(e, dict) for c in e.get("choices", [])
        )


class RawClient:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def receive(self, *, head_only: bool = False) -> Got:
        """One answer; interim ones are kept out. Raises `IncompleteReadError` when none comes."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *rest = head.strip().split("\r\n")
        headers = {k.lower(): v.strip() for k, _, v in (h.partition(":") for h in rest)}
        got = Got(int(first.split()[1]), headers, raw_headers=rest)
        if head_only or got.status < 200 or got.status == 204:
            return got
        try:
            if headers.get("transfer-encoding") == "chunked":
                while size := int(await self.reader.readuntil(b"\r\n"), 16):
                    got.body += (await self.reader.readexactly(size + 2))[:-2]
                await self.reader.readexactly(2)
            elif "content-length" in headers:
                got.body = await self.reader.readexactly(int(headers["content-length"]))
            else:
                got.body = await self.reader.read()
        except (asyncio.IncompleteReadError, ConnectionError):
            got.whole = False
        return got

    async def closed(self) -> bool:
        """True when the other side ends the connection without another byte."""
        try:
            return await self.reader.read(1) == b""
        except ConnectionError:
            return True


@asynccontextmanager
async def connected(port: int, host: str = "127.0.0.1") -> AsyncIterator[RawClient]:
    reader, writer = await asyncio.open_connection(host, port, limit=64 * 1024 * 1024)
    try:
        yield RawClient(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def chat_body(model: str = "chat", stream: bool = False, **more: object) -> bytes:
    value: dict[str, object] = {"model": model, "messages": [{"role": "user", "content": "hi"}], **more}
    if stream:
        value["stream"] = True
    return json.dumps(value).encode()


def chat_request(body: bytes, *headers: str, version: str = "1.1") -> bytes:
    lines = [
        f"POST /v1/chat/completions HTTP/{version}",
        "host: gateway",
        "content-type: application/json",
        f"content-length: {len(body)}",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def chat(port: int, *headers: str, model: str = "chat", stream: bool = False, **more: object) -> Got:
    """One request on a connection of its own."""
    async with connected(port) as client:
        await client.send(chat_request(chat_body(model, stream, **more), *headers))
        return await client.receive()
