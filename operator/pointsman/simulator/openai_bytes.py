"""What an OpenAI-compatible engine writes, as values and bytes: completions, deltas, errors, server-sent events.

Decided here: the shapes only, after OpenAI's API reference. Not here: when they are sent, or how wrongly
(`behaviour.py`).
"""

from __future__ import annotations

import json

MODEL = "simulated"
USAGE = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}


def event(value: object) -> bytes:
    """One server-sent event. Bytes are taken as the data that they are."""
    return b"data: " + (value if isinstance(value, bytes) else json.dumps(value).encode()) + b"\n\n"


def delta(content: str | None = None, finish: str | None = None, index: int = 0, **more: object) -> dict[str, object]:
    """A chunk of a streamed chat completion: of the choice `index`, with `more` in its delta."""
    part: dict[str, object] = dict(more)
    if content is not None:
        part["content"] = content
    choice = {"index": index, "delta": part, "finish_reason": finish}
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": MODEL, "choices": [choice]}


ROLE = delta("", role="assistant")
FINISH = delta(finish="stop")
DONE = b"[DONE]"
USAGE_FRAME = {**delta(), "choices": [], "usage": USAGE}


def completion(content: str | None, finish: str = "stop", **more: object) -> bytes:
    """A whole chat completion, with `more` in its message."""
    message = {"role": "assistant", "content": content, **more}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    value = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": MODEL, "choices": [choice]}
    return json.dumps({**value, "usage": USAGE}).encode()


def error(message: str, code: str | None = None, kind: str = "api_error") -> bytes:
    """An error's body."""
    return json.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}}).encode()


def models(names: tuple[str, ...]) -> bytes:
    """The answer of `GET /v1/models`."""
    data = [{"id": n, "object": "model", "created": 1, "owned_by": "simulator"} for n in names]
    return json.dumps({"object": "list", "data": data}).encode()
