"""Answers as a server of OpenAI's chat API gives them, for `Engine`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping

from aiohttp import web
from tests.support.engine import Answer, Reply

CHAT = "/v1/chat/completions"


def chat(name: str, *, tokens: int = 5, pause: float = 0.0) -> Answer:
    """Says `name` in its answers; streams `tokens` tokens, `pause` seconds apart."""

    async def answer(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        head = {"id": f"chatcmpl-{name}", "created": 1, "model": body["model"]}
        usage = {"prompt_tokens": 3, "completion_tokens": tokens, "total_tokens": 3 + tokens}
        if not body.get("stream"):
            await asyncio.sleep(pause * tokens)
            message = {"role": "assistant", "content": f"{name} " * tokens}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            return web.json_response({**head, "object": "chat.completion", "choices": [choice], "usage": usage})
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)

        async def send(delta: Mapping[str, str], finish: str | None) -> None:
            choice = {"index": 0, "delta": delta, "finish_reason": finish}
            frame = {**head, "object": "chat.completion.chunk", "choices": [choice]}
            await response.write(b"data: " + json.dumps(frame).encode() + b"\n\n")

        await send({"role": "assistant", "content": ""}, None)
        for _ in range(tokens):
            await send({"content": f"{name} "}, None)
            await asyncio.sleep(pause)
        await send({}, "stop")
        if (body.get("stream_options") or {}).get("include_usage"):
            frame = {**head, "object": "chat.completion.chunk", "choices": [], "usage": usage}
            await response.write(b"data: " + json.dumps(frame).encode() + b"\n\n")
        await response.write(b"data: [DONE]\n\n")
        return response

    return answer


def replies(name: str, *, tokens: int = 5, pause: float = 0.0) -> dict[str, Reply | Answer]:
    """The chat API and the list of models."""
    models = Reply(body={"object": "list", "data": [{"id": "small", "object": "model"}]})
    return {"/v1/models": models, CHAT: chat(name, tokens=tokens, pause=pause)}
