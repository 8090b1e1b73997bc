"""Requests for every operation, and what backends say to them, byte for byte."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.support.raw_client import Got, connected
from tests.support.running_gateway import Running, gateway, route, table
from tests.support.simulated import Simulated

from pointsman.simulator.behaviour import Act, Behaviour, answers, streams

ASKS: dict[str, dict[str, Any]] = {
    "chat/completions": {"messages": [{"role": "user", "content": "hi"}]},
    "completions": {"prompt": "hi"},
    "embeddings": {"input": "hi"},
    "responses": {"input": "hi", "store": False},
}


async def ask(port: int, operation: str, *headers: str, method: str = "POST", **fields: Any) -> Got:
    """One request on a connection of its own. Fields are added to the usual ones; `None` leaves one out."""
    value = {"model": "chat", **ASKS.get(operation, {}), **fields}
    body = json.dumps({k: v for k, v in value.items() if v is not None}).encode() if method == "POST" else b""
    lines = [f"{method} /v1/{operation} HTTP/1.1", "host: g", f"content-length: {len(body)}", *headers]
    async with connected(port) as client:
        await client.send("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        return await client.receive(head_only=method == "HEAD")


@asynccontextmanager
async def line(*backends: Simulated, **how: Any) -> AsyncIterator[Running]:
    """A gateway with one route over the backends, in this order. Who is to be silent wants `timeouts=SHORT`."""
    made = route(*(b.label for b in backends), **how)
    async with gateway(table([b.backend() for b in backends], [made])) as running:
        yield running


def whole(value: Any, status: int = 200) -> Behaviour:
    return answers(status, json.dumps(value).encode())


def refuses(status: int, message: str = "boom", code: str | None = None) -> Behaviour:
    return whole({"error": {"message": message, "type": "api_error", "param": None, "code": code}}, status)


def text(words: str, finish: str | None = "stop", index: int = 0) -> dict[str, Any]:
    choice = {"index": index, "text": words, "logprobs": None, "finish_reason": finish}
    return {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "m", "choices": [choice]}


def vectors(*rows: Any) -> dict[str, Any]:
    data = [{"object": "embedding", "index": n, "embedding": row} for n, row in enumerate(rows)]
    return {"object": "list", "data": data, "model": "m", "usage": {"prompt_tokens": 2, "total_tokens": 2}}


def response(words: str, answer_id: str = "resp_1", **fields: Any) -> dict[str, Any]:
    item = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": words}]}
    usage = {"input_tokens": 2, "output_tokens": 3, "total_tokens": 5}
    return {
        "id": answer_id, "object": "response", "created_at": 1, "status": "completed", "model": "m",
        "output": [item] if words else [], "error": None, "previous_response_id": None, "usage": usage, **fields,
    }  # fmt: skip


def created(answer_id: str = "resp_1", **fields: Any) -> dict[str, Any]:
    return {"type": "response.created", "response": response("", answer_id, status="in_progress", **fields)}


def delta(words: str) -> dict[str, Any]:
    return {"type": "response.output_text.delta", "delta": words}


def completed(words: str, answer_id: str = "resp_1", **fields: Any) -> dict[str, Any]:
    return {"type": "response.completed", "response": response(words, answer_id, **fields)}


def keeps(label: str) -> Behaviour:
    """A backend that answers each request with an id of its own, and knows those that it gave."""
    given: list[str] = []

    async def behave(connection: Any, request: Any) -> None:
        asked = request.json
        previous = asked.get("previous_response_id")
        if previous is not None and previous not in given:
            message = f"Previous response with id '{previous}' not found."
            await refuses(400, message, "previous_response_not_found")(connection, request)
            return
        answer_id = f"resp_{label}_{len(given)}"
        given.append(answer_id)
        said = {"previous_response_id": previous}
        if asked.get("stream"):
            pieces = (created(answer_id, **said), delta(label), completed(label, answer_id, **said))
            await streams(*pieces, Act.END)(connection, request)
        else:
            await whole(response(label, answer_id, **said))(connection, request)

    return behave
