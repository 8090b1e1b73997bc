"""A backend for the client tests: every text operation of OpenAI's API, answers that name it, and ways to fail."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from tests.support.engine import Answer, Engine, Reply

WORDS = (" one", " two", " three")
USAGE = {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6}
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Ulm"}'}}
VECTOR = [0.5, -1.0, 2.0]


class Backend:
    """What it was asked stands in `bodies`; `left` counts answers that the other side did not wait for."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.bodies: list[tuple[str, dict[str, Any]]] = []
        self.error: Callable[[], tuple[int, str, str] | None] = lambda: None
        """(status, message, code) to answer with; None: well."""
        self.headers: dict[str, str] = {}
        self.endless = False
        """Streams go on for ever."""
        self.silent = False
        """No answer comes at all."""
        self.breaks = False
        """Streams are cut after their first content."""
        self.left = asyncio.Event()
        self.engine = Engine(
            {
                "/v1/models": Reply(body={"object": "list", "data": [{"id": "m", "object": "model"}]}),
                "/v1/chat/completions": self._checked(self._chat),
                "/v1/completions": self._checked(self._completion),
                "/v1/embeddings": self._checked(self._embeddings),
                "/v1/responses": self._checked(self._response),
            }
        )

    @property
    def url(self) -> str:
        return f"{self.engine.url}/v1"

    def fails(self, status: int, message: str = "boom", code: str = "") -> None:
        self.error = lambda: (status, message, code)

    def heals(self) -> None:
        self.error = lambda: None

    def _checked(self, answer: Callable[[web.Request, dict[str, Any]], Any]) -> Answer:
        async def checked(request: web.Request) -> web.StreamResponse:
            body = await request.json()
            self.bodies.append((request.path, body))
            said = self.error()
            if said is not None:
                status, message, code = said
                error = {"message": message, "type": "api_error", "param": None, "code": code or None}
                return web.json_response({"error": error}, status=status, headers=self.headers)
            try:
                if self.silent:
                    await asyncio.Event().wait()
                response: web.StreamResponse = await answer(request, body)
            except (asyncio.CancelledError, ConnectionError):
                self.left.set()
                raise
            return response

        return checked

    async def _stream(self, request: web.Request, start: list[Any], content: list[Any], end: list[Any]) -> Any:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for value in (*start, *content):
            await response.write(_event(value))
        if self.breaks:
            assert request.transport is not None
            request.transport.close()
            return response
        while self.endless:
            await asyncio.sleep(0.005)
            await response.write(_event(content[-1]))
        for value in end:
            await response.write(_event(value))
        return response

    async def _chat(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        head = {"id": f"chatcmpl-{self.label}", "created": 1, "model": body["model"]}
        calls = bool(body.get("tools"))
        finish = "tool_calls" if calls else "stop"
        if not body.get("stream"):
            message = {"role": "assistant", "content": None if calls else self.label + "".join(WORDS)}
            if calls:
                message |= {"tool_calls": [CALL]}
            choice = {"index": 0, "message": message, "finish_reason": finish}
            return web.json_response({**head, "object": "chat.completion", "choices": [choice], "usage": USAGE})
        head["object"] = "chat.completion.chunk"

        def chunk(delta: dict[str, Any], end: str | None = None) -> dict[str, Any]:
            return {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": end}]}

        deltas = [chunk({"content": w}) for w in (self.label, *WORDS)]
        if calls:
            whole = CALL["function"]["arguments"]  # type: ignore[index]
            first = {"index": 0, **CALL, "function": {"name": "weather", "arguments": ""}}
            parts = [{"index": 0, "function": {"arguments": part}} for part in (whole[:5], whole[5:])]
            deltas = [chunk({"tool_calls": [part]}) for part in (first, *parts)]
        end: list[Any] = [chunk({}, finish)]
        if (body.get("stream_options") or {}).get("include_usage"):
            end.append({**head, "choices": [], "usage": USAGE})
        return await self._stream(request, [chunk({"role": "assistant", "content": ""})], deltas, [*end, b"[DONE]"])

    async def _completion(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        def chunk(text: str, end: str | None = None) -> dict[str, Any]:
            choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": end}
            return {
                "id": "cmpl-1",
                "object": "text_completion",
                "created": 1,
                "model": body["model"],
                "choices": [choice],
            }

        if not body.get("stream"):
            return web.json_response({**chunk(self.label + "".join(WORDS), "stop"), "usage": USAGE})
        end: list[Any] = [chunk("", "stop")]
        if (body.get("stream_options") or {}).get("include_usage"):
            end.append({**chunk(""), "choices": [], "usage": USAGE})
        return await self._stream(request, [], [chunk(w) for w in (self.label, *WORDS)], [*end, b"[DONE]"])

    async def _embeddings(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        asked = body["input"] if isinstance(body["input"], list) else [body["input"]]
        packed = base64.b64encode(struct.pack(f"<{len(VECTOR)}f", *VECTOR)).decode()
        vector = packed if body.get("encoding_format") == "base64" else VECTOR
        rows = [{"object": "embedding", "index": n, "embedding": vector} for n in range(len(asked))]
        usage = {"prompt_tokens": 3, "total_tokens": 3}
        return web.json_response({"object": "list", "data": rows, "model": body["model"], "usage": usage})

    async def _response(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        number = len(self.bodies)
        value = {
            "id": f"resp_{self.label}_{number}", "object": "response", "created_at": 1, "model": body["model"],
            "status": "in_progress", "output": [], "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
            "error": None, "incomplete_details": None, "previous_response_id": body.get("previous_response_id"),
        }  # fmt: skip
        text = self.label + "".join(WORDS)
        part = {"type": "output_text", "text": text, "annotations": []}
        item: dict[str, Any] = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed"}
        item["content"] = [part]
        if body.get("tools"):
            item = {"id": "fc_1", "type": "function_call", "call_id": "call_1", "status": "completed"}
            item |= CALL["function"]  # type: ignore[operator]
        usage = {"input_tokens": 3, "output_tokens": 3, "total_tokens": 6}
        whole = value | {"status": "completed", "output": [item], "usage": usage}
        if not body.get("stream"):
            return web.json_response(whole)
        place: dict[str, Any] = {"item_id": "msg_1", "output_index": 0}
        start: list[dict[str, Any]] = [{"type": "response.created", "response": value}]
        if body.get("tools"):
            start.append({"type": "response.output_item.added", "output_index": 0, "item": item | {"arguments": ""}})
            kind = "response.function_call_arguments.delta"
            place["item_id"] = "fc_1"
            arguments = str(item["arguments"])
            parts: tuple[str, ...] = (arguments[:5], arguments[5:])
        else:
            place["content_index"] = 0
            start.append({"type": "response.output_item.added", "output_index": 0, "item": item | {"content": []}})
            start.append({"type": "response.content_part.added", **place, "part": part | {"text": ""}})
            kind = "response.output_text.delta"
            parts = (self.label, *WORDS)
        content = [{"type": kind, **place, "delta": w, "logprobs": []} for w in parts]
        end = [{"type": "response.completed", "response": whole}]
        numbered = [{**e, "sequence_number": n} for n, e in enumerate([*start, *content, *end])]
        return await self._stream(request, numbered[: len(start)], numbered[len(start) : -1], numbered[-1:])


def _event(value: Any) -> bytes:
    if isinstance(value, bytes):
        return b"data: " + value + b"\n\n"
    kind = value.get("type")
    head = f"event: {kind}\n".encode() if isinstance(kind, str) else b""
    return head + b"data: " + json.dumps(value).encode() + b"\n\n"


@asynccontextmanager
async def backend(label: str) -> AsyncIterator[Backend]:
    made = Backend(label)
    async with made.engine:
        yield made
