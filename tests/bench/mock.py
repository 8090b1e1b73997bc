"""A backend as fast as we can make one, which knows one answer. It says which models it has, and to a POST:

- `json`: one chat completion, once the whole request was read
- `stream`: a role, `TOKENS` tokens and an end, each in a write of its own, as fast as it can
- `idle`: a role and one token, then nothing for as long as the client stays

    python -m tests.bench.mock MODE PORT
"""

from __future__ import annotations

import asyncio
import json
import sys

import httptools
import uvloop

ADDRESSES = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
"""Three backends: the same process listens on each."""
TOKENS = 99
EVENTS = TOKENS + 2
"""The role, the tokens and the end; `[DONE]` is not counted."""

MODELS = json.dumps({"object": "list", "data": [{"id": "bench", "object": "model"}]})
ANSWER = json.dumps(
    {
        "id": "chatcmpl-1234567890",
        "object": "chat.completion",
        "created": 1763800000,
        "model": "bench",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "A pointsman sets the points that send a train on."},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 212, "completion_tokens": 12, "total_tokens": 224},
    }
).ljust(371)


def _whole(body: str) -> bytes:
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return (head + body).encode()


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _event(delta: dict[str, str], finish: str | None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    head = {"id": "chatcmpl-1234567890", "object": "chat.completion.chunk", "created": 1763800000, "model": "bench"}
    return _chunk(b"data: " + json.dumps(head | {"choices": [choice]}).encode() + b"\n\n")


_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_FIRST = _HEAD + _event({"role": "assistant", "content": ""}, None)
_TOKEN = _event({"content": " token"}, None)
WRITES = {
    "json": [_whole(ANSWER)],
    "stream": [_FIRST, *[_TOKEN] * TOKENS, _event({}, "stop"), _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"],
    "idle": [_FIRST, _TOKEN],
}
_LISTED = [_whole(MODELS)]


class Mock(asyncio.Protocol):
    def __init__(self, writes: list[bytes]) -> None:
        self.parser = httptools.HttpRequestParser(self)
        self.loop = asyncio.get_running_loop()
        self.writes = writes

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_complete(self) -> None:
        self._write(self.writes if self.parser.get_method() == b"POST" else _LISTED, 0)

    def _write(self, writes: list[bytes], n: int) -> None:
        if not self.transport.is_closing():
            self.transport.write(writes[n])
            if n + 1 < len(writes):
                self.loop.call_soon(self._write, writes, n + 1)


async def main(mode: str, port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Mock(WRITES[mode]), ADDRESSES, port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2])))
