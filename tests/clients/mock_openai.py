"""A mock of OpenAI's API that keeps to its schema: what its own client's tests run against.

Each answer is a sample of the type that the client declares for the call (`samples.py`), streamed where a stream is
asked for. Like a real server it names again what a response continues, and it wants JSON. What was asked is recorded.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from aiohttp import web
from openai.types import Completion, CreateEmbeddingResponse, Model, ModelDeleted
from openai.types.chat import ChatCompletion, ChatCompletionChunk, ChatCompletionDeleted, ChatCompletionStoreMessage
from openai.types.responses import (
    CompactedResponse,
    Response,
    ResponseCompletedEvent,
    ResponseCreatedEvent,
    ResponseItem,
    ResponseTextDeltaEvent,
)
from openai.types.responses.input_token_count_response import InputTokenCountResponse
from tests.clients.samples import sample


@dataclass
class Asked:
    method: str
    path: str
    """With its query."""
    body: Any
    """Decoded JSON; None without a body."""


@dataclass
class MockOpenAI:
    """`async with MockOpenAI() as mock:`; its API is at `mock.url`."""

    asked: list[Asked] = field(default_factory=list)
    port: int = 0
    _runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> MockOpenAI:
        app = web.Application(client_max_size=64 << 20)
        app.add_routes(
            [
                web.get("/models", self._page(Model)),
                web.get("/models/{id}", self._one(Model)),
                web.delete("/models/{id}", self._one(ModelDeleted)),
                web.post("/completions", self._completion),
                web.post("/embeddings", self._one(CreateEmbeddingResponse)),
                web.post("/chat/completions", self._chat),
                web.get("/chat/completions", self._page(ChatCompletion)),
                web.get("/chat/completions/{id}", self._one(ChatCompletion)),
                web.post("/chat/completions/{id}", self._one(ChatCompletion)),
                web.delete("/chat/completions/{id}", self._one(ChatCompletionDeleted)),
                web.get("/chat/completions/{id}/messages", self._page(ChatCompletionStoreMessage)),
                web.post("/responses", self._response),
                web.post("/responses/compact", self._one(CompactedResponse)),
                web.post("/responses/input_tokens", self._one(InputTokenCountResponse)),
                web.get("/responses/{id}", self._response),
                web.delete("/responses/{id}", self._nothing),
                web.post("/responses/{id}/cancel", self._response),
                web.get("/responses/{id}/input_items", self._page(ResponseItem)),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _read(self, request: web.Request) -> dict[str, Any]:
        text = await request.text()
        body = json.loads(text) if text else None
        self.asked.append(Asked(request.method, request.path_qs, body))
        if text and "json" not in request.content_type:
            raise web.HTTPUnsupportedMediaType
        return body or {}

    def _one(self, kind: Any) -> Any:
        async def answer(request: web.Request) -> web.StreamResponse:
            await self._read(request)
            return web.json_response(sample(kind))

        return answer

    def _page(self, kind: Any) -> Any:
        async def answer(request: web.Request) -> web.StreamResponse:
            await self._read(request)
            page = {"object": "list", "data": [sample(kind)], "first_id": "a", "last_id": "b", "has_more": False}
            return web.json_response(page)

        return answer

    async def _nothing(self, request: web.Request) -> web.StreamResponse:
        await self._read(request)
        return web.Response(content_type="application/json")

    async def _completion(self, request: web.Request) -> web.StreamResponse:
        body = await self._read(request)
        if not body.get("stream"):
            return web.json_response(sample(Completion))
        first, last = sample(Completion), sample(Completion)
        first["choices"][0]["finish_reason"] = None
        return await _stream(request, [("", first), ("", last), ("", b"[DONE]")])

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await self._read(request)
        if not body.get("stream"):
            return web.json_response(sample(ChatCompletion))
        first, last = sample(ChatCompletionChunk), sample(ChatCompletionChunk)
        first["choices"][0]["finish_reason"] = None
        return await _stream(request, [("", first), ("", last), ("", b"[DONE]")])

    async def _response(self, request: web.Request) -> web.StreamResponse:
        body = await self._read(request)
        value = sample(Response) | {"error": None, "status": "completed"}
        value["previous_response_id"] = body.get("previous_response_id")
        conversation = body.get("conversation")
        value["conversation"] = {"id": conversation} if isinstance(conversation, str) else conversation
        if not (body.get("stream") or request.query.get("stream") == "true"):
            return web.json_response(value)
        created = sample(ResponseCreatedEvent) | {"response": value | {"status": "in_progress", "output": []}}
        events = [created, sample(ResponseTextDeltaEvent), sample(ResponseCompletedEvent) | {"response": value}]
        return await _stream(request, [(e["type"], e) for e in events])


async def _stream(request: web.Request, events: list[tuple[str, Any]]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    with contextlib.suppress(ConnectionError):  # some tests close a stream that they have not read
        for kind, value in events:
            data = value if isinstance(value, bytes) else json.dumps(value).encode()
            await response.write((b"event: " + kind.encode() + b"\n" if kind else b"") + b"data: " + data + b"\n\n")
    return response
