"""Text completions: their content is `text`; everything else is as with chats."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pointsman.dialects.openai import compose
from pointsman.dialects.openai_completions import judge_completion, open_text_stream, parse_completion
from pointsman.dialects.request import ChatRequest, Complaint
from pointsman.dialects.sse import EventStream
from pointsman.dialects.usage import Usage
from pointsman.domain.verdict import SUCCESS, Why

ASKED = ChatRequest(b"", "m", True, False, False, (0, 0), None)
DONE = b"data: [DONE]\n\n"


def chunk(text: str | None, finish: str | None = None, index: int = 0, **more: Any) -> bytes:
    choice = {"index": index, "text": text, "logprobs": None, "finish_reason": finish}
    value = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "m", "choices": [choice], **more}
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def run(*frames: bytes) -> tuple[bytes, EventStream]:
    stream = EventStream(open_text_stream(ASKED), hide_usage=True)
    out = b"".join(stream.feed(f) for f in frames)
    return out + stream.finish(clean=True), stream


@pytest.mark.parametrize("prompt", ["a", ["a", "b"], [1, 2], [[1], [2]]])
def test_only_the_model_changes(prompt: object) -> None:
    value = {"prompt": prompt, "model": "chat", "max_tokens": 3, "x": {"model": "y"}, "suffix": "s"}
    request = parse_completion(json.dumps(value).encode())
    assert isinstance(request, ChatRequest)
    assert json.loads(compose(request, "m:1", ask_usage=True)) == value | {"model": "m:1"}


def test_usage_of_a_stream_is_asked_for() -> None:
    request = parse_completion(b'{"model":"a","prompt":"x","stream":true,"stop":["\\n"]}')
    assert isinstance(request, ChatRequest)
    assert (request.stream, request.wants_usage, request.has_stop) == (True, False, True)
    assert json.loads(compose(request, "b", ask_usage=True))["stream_options"] == {"include_usage": True}
    asked = parse_completion(b'{"model":"a","stream":true,"stream_options":{"include_usage":true}}')
    assert isinstance(asked, ChatRequest)
    assert asked.wants_usage


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "invalid_json"),
        (b"[]", "invalid_json"),
        (b'{"prompt":"x"}', "missing_model"),
        (b'{"model":1}', "invalid_type"),
        (b'{"model":"a","model":"b"}', "duplicate_key"),
        (b'{"model":"a","stream":true,"stream_options":1}', None),
        (b'{"model":""}', None),
    ],
)
def test_body_that_cannot_be_routed(body: bytes, code: str | None) -> None:
    found = parse_completion(body)
    assert isinstance(found, Complaint)
    assert (found.status, found.code) == (400, code)


def test_stream_is_held_until_its_first_text() -> None:
    stream = EventStream(open_text_stream(ASKED), hide_usage=True)
    assert stream.feed(chunk("")) == b""
    assert not stream.committed
    assert stream.feed(chunk("Hi")) == chunk("") + chunk("Hi")


def test_stream_of_two_prompts_is_complete_when_both_are() -> None:
    out, stream = run(chunk("a"), chunk("b", index=1), chunk("", "stop"))
    assert stream.ended is not None
    assert stream.ended.why is Why.INCOMPLETE
    assert DONE not in out
    out, stream = run(chunk("a"), chunk("b", index=1), chunk("", "stop"), chunk("", "length", 1), DONE)
    assert stream.ended is SUCCESS
    assert out.endswith(DONE)


def test_usage_frame_is_read_and_hidden() -> None:
    usage = {"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3}
    frame = b"data: " + json.dumps({"id": "c", "choices": [], "usage": usage}).encode() + b"\n\n"
    out, stream = run(chunk("a", "stop"), frame, DONE)
    assert b"usage" not in out
    assert stream.reader.usage == Usage(2, 1)


ANSWERS: list[tuple[dict[str, Any], Why]] = [
    ({"choices": [{"text": "x"}]}, Why.ANSWERED),
    ({"choices": [{"text": ""}, {"text": "x", "index": 1}]}, Why.ANSWERED),
    ({"choices": [{"text": "", "finish_reason": "stop"}]}, Why.EMPTY),
    ({"choices": [{"text": None, "finish_reason": "content_filter"}]}, Why.ANSWERED),
    ({"choices": [{"text": "", "finish_reason": "length"}], "usage": {"completion_tokens": 1}}, Why.ANSWERED),
    ({"choices": [{"message": {"content": "a chat"}}]}, Why.EMPTY),
    ({"choices": []}, Why.EMPTY),
    ({"error": {"message": "x"}}, Why.ERROR_EVENT),
    ({"choices": 1}, Why.BROKEN_JSON),
    ({"choices": [{"text": "x"}], "usage": "many"}, Why.ANSWERED),
]


@pytest.mark.parametrize(("value", "why"), ANSWERS)
def test_worth_of_a_json_answer(value: dict[str, Any], why: Why) -> None:
    judged, _, _ = judge_completion(json.dumps(value).encode(), ASKED)
    assert judged.why is why
