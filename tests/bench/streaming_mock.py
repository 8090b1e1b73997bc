"""A backend that streams: a role, `TOKENS` tokens and an end, each in a write of its own, as fast as it can.

python -m tests.bench.streaming_mock PORT
"""

from __future__ import annotations

import asyncio
import json
import sys

import httptools
import uvloop

TOKENS = 99
EVENTS = TOKENS + 2
"""The role, the tokens and the end; `[DONE]` is not counted."""


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _event(delta: dict[str, str], finish: str | None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    head = {"id": "chatcmpl-1234567890", "object": "chat.completion.chunk", "created": 1763800000, "model": "bench"}
    return _chunk(b"data: " + json.dumps(head | {"choices": [choice]}).encode() + b"\n\n")


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
WRITES = [
    HEAD + _event({"role": "assistant", "content": ""}, None),
    *[_event({"content": " token"}, None)] * TOKENS,
    _event({}, "stop"),
    _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n",
]


class Mock(asyncio.Protocol):
    def __init__(self) -> None:
        self.parser = httptools.HttpRequestParser(self)
        self.loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_complete(self) -> None:
        self._write(0)

    def _write(self, n: int) -> None:
        if not self.transport.is_closing():
            self.transport.write(WRITES[n])
            if n + 1 < len(WRITES):
                self.loop.call_soon(self._write, n + 1)


async def main(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Mock, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
