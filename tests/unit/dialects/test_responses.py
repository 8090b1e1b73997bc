"""Responses: what may have acted, what continues something, what counts as content, and when a stream is whole."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.api.route import TaskType
from pointsman.dialects.openai_responses import compose_response_request, parse_response_request
from pointsman.dialects.openai_responses_answer import ResponseStream, judge_response, response_id
from pointsman.dialects.request import Care, ChatRequest, Complaint
from pointsman.dialects.sse import EventStream, Frame
from pointsman.dialects.usage import Usage
from pointsman.domain.judging import judge_said
from pointsman.domain.verdict import FORGOTTEN, SUCCESS, Verdict, Why


def parsed(**fields: Any) -> ChatRequest:
    request = parse_response_request(json.dumps({"model": "m", "input": "x", **fields}).encode())
    assert isinstance(request, ChatRequest), request
    return request


PLAIN = parsed(store=False)


def frame(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def response(status: str = "in_progress", *output: Any, **fields: Any) -> dict[str, Any]:
    return {"id": "resp_1", "object": "response", "status": status, "model": "m", "output": list(output), **fields}


def message(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}


CREATED = frame("response.created", response=response())
ADDED = frame("response.output_item.added", item={"type": "message", "role": "assistant", "content": []})
PART = frame("response.content_part.added", part={"type": "output_text", "text": ""})
HELLO = frame("response.output_text.delta", delta="Hello")
USAGE = {"input_tokens": 5, "output_tokens": 2, "total_tokens": 7}
COMPLETED = frame("response.completed", response=response("completed", message("Hello"), usage=USAGE))


def run(*frames: bytes, request: ChatRequest = PLAIN) -> tuple[bytes, EventStream, ResponseStream]:
    reader = ResponseStream(request)
    stream = EventStream(reader, hide_usage=False)
    out = b"".join(stream.feed(f) for f in frames)
    return out + stream.finish(clean=True), stream, reader


# ---- the request


@pytest.mark.parametrize(
    ("fields", "acts"),
    [
        ({}, True),
        ({"store": None}, True),
        ({"store": True}, True),
        ({"store": False}, False),
        ({"store": False, "background": False}, False),
        ({"store": False, "background": True}, True),
        ({"store": False, "tools": []}, False),
        ({"store": False, "tools": None}, False),
        ({"store": False, "tools": [{"type": "function", "name": "f"}, {"type": "custom", "name": "c"}]}, False),
        ({"store": False, "tools": [{"type": "function", "name": "f"}, {"type": "web_search"}]}, True),
        ({"store": False, "tools": [{"type": "mcp", "server_url": "x"}]}, True),
        ({"store": False, "tools": "odd"}, True),
        ({"store": False, "conversation": "conv_1"}, True),
        ({"store": False, "previous_response_id": "resp_1"}, False),
    ],
)
def test_which_requests_may_act(fields: dict[str, Any], acts: bool) -> None:
    care = parsed(**fields).care
    assert (care is not None and care.acts) is acts


def test_what_a_request_continues() -> None:
    assert PLAIN.care is None, "the usual costs nothing"
    assert parsed().care == Care(True, True)
    assert parsed(store=False, previous_response_id="resp_9").care == Care(False, False, "resp_9")
    assert parsed(conversation="conv_1").care == Care(True, True, "", "conv_1")
    assert parsed(store=False, conversation={"id": "conv_2"}).care == Care(True, False, "", "conv_2")
    assert parsed(store=False, conversation=None, previous_response_id=None).care is None


def test_our_own_field_stays_here() -> None:
    request = parsed(store=False, task_type="reasoning")
    assert request.task is TaskType.REASONING
    assert b"task_type" not in compose_response_request(request, "m")


def test_only_the_model_changes() -> None:
    value = {"input": [{"role": "user", "content": "model"}], "model": "chat", "stream": True, "new": {"model": 1}}
    request = parse_response_request(json.dumps(value).encode())
    assert isinstance(request, ChatRequest)
    assert json.loads(compose_response_request(request, "m:1", ask_usage=True)) == value | {"model": "m:1"}


@pytest.mark.parametrize(
    "body", [b"{}", b"[1]", b'{"model":""}', b'{"model":"a","model":"b"}', b'{"model":2}', b"\xff"]
)
def test_body_that_cannot_be_routed(body: bytes) -> None:
    found = parse_response_request(body)
    assert isinstance(found, Complaint)
    assert found.status == 400


# ---- streams


def test_stream_is_held_until_its_first_content() -> None:
    stream = EventStream(ResponseStream(PLAIN), hide_usage=False)
    for quiet in (CREATED, frame("response.in_progress", response=response()), ADDED, PART):
        assert stream.feed(quiet) == b""
    assert not stream.committed
    assert stream.feed(HELLO).endswith(HELLO)
    assert stream.committed


def test_whole_stream_goes_on_byte_for_byte() -> None:
    frames = (CREATED, ADDED, PART, HELLO, COMPLETED)
    out, stream, reader = run(*frames)
    assert out == b"".join(frames)
    assert stream.ended is SUCCESS
    assert reader.usage == Usage(5, 2)
    assert reader.kept_id == "resp_1"


@pytest.mark.parametrize(
    "content",
    [
        HELLO,
        frame("response.refusal.delta", delta="No"),
        frame("response.reasoning_text.delta", delta="Hm"),
        frame("response.reasoning_summary_text.delta", delta="Hm"),
        frame("response.function_call_arguments.delta", delta="{"),
        frame("response.output_item.added", item={"type": "function_call", "name": "f", "arguments": ""}),
        frame("response.output_item.done", item=message("Hello")),
        frame("response.output_text.done", text="Hello"),
        frame("response.web_search_call.searching", item_id="ws"),
        frame("response.completed", response=response("completed", message("Hello"))),
        frame("response.completed", response=response("completed", {"type": "function_call", "name": "f"})),
    ],
)
def test_content(content: bytes) -> None:
    _, stream, _ = run(CREATED, content)
    assert stream.committed


@pytest.mark.parametrize(
    "quiet",
    [
        CREATED,
        ADDED,
        PART,
        frame("response.output_text.delta", delta=""),
        frame("response.queued", response=response("queued")),
        frame("response.output_item.added", item={"type": "reasoning", "summary": []}),
        frame("response.output_item.done", item=message("")),
        frame("response.brand_new_event", thing=1),
        b": ping\n\n",
    ],
)
def test_no_content(quiet: bytes) -> None:
    _, stream, _ = run(CREATED, quiet)
    assert not stream.committed
    assert stream.ended is not None
    assert stream.ended.why is Why.EMPTY


def test_stream_without_its_end_is_a_failure() -> None:
    """Ollama ends so when its runner dies."""
    out, stream, _ = run(CREATED, HELLO)
    assert stream.ended is not None
    assert stream.ended.why is Why.INCOMPLETE
    assert out == CREATED + HELLO


def test_done_marker_of_chats_is_left_out() -> None:
    out, stream, _ = run(CREATED, HELLO, COMPLETED, b"data: [DONE]\n\n")
    assert stream.ended is SUCCESS
    assert out == CREATED + HELLO + COMPLETED


@pytest.mark.parametrize(
    ("end", "why"),
    [
        (response("completed"), Why.EMPTY),
        (response("incomplete", incomplete_details={"reason": "content_filter"}), Why.ANSWERED),
        (response("incomplete", incomplete_details={"reason": "max_output_tokens"}, usage=USAGE), Why.ANSWERED),
        (
            response("incomplete", incomplete_details={"reason": "max_output_tokens"}, usage={"output_tokens": 0}),
            Why.EMPTY,
        ),
    ],
)
def test_end_without_content(end: dict[str, Any], why: Why) -> None:
    _, stream, _ = run(CREATED, frame(f"response.{end['status']}", response=end))
    assert stream.ended is not None
    assert stream.ended.why is why


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        ({"code": "server_error", "message": "boom"}, Verdict.FAILURE),
        ({"code": "rate_limit_exceeded", "message": "slow down"}, Verdict.BUSY),
        ({"code": "invalid_prompt", "message": "no"}, Verdict.CALLER),
        ({"code": "context_length_exceeded", "message": "maximum context length is 5"}, Verdict.FAILURE),
        (None, Verdict.FAILURE),
    ],
)
def test_failed_response(error: object, verdict: Verdict) -> None:
    failed = response("failed", error=error)
    _, stream, _ = run(CREATED, frame("response.failed", response=failed))
    assert stream.ended is not None
    assert stream.ended.verdict is verdict
    judged, _, said = judge_response(json.dumps(failed).encode(), PLAIN)
    assert judged.why is Why.ERROR_EVENT
    assert judge_said(said).verdict is verdict


@pytest.mark.parametrize(
    "event",
    [
        frame("error", code="server_error", message="boom", param=None),
        frame("error", error={"type": "server_error", "message": "boom"}),
        b'event: error\ndata: {"message":"boom"}\n\n',
        b'data: {"error":{"message":"boom"}}\n\n',
    ],
)
def test_error_event(event: bytes) -> None:
    _, stream, reader = run(CREATED, event)
    assert stream.ended is not None
    assert stream.ended.verdict is Verdict.FAILURE
    assert reader.error is not None
    assert reader.error.text == "boom"
    assert json.loads(reader.error.shown)["error"]["message"] == "boom"


def test_our_own_error_event_goes_on_with_the_count() -> None:
    _, _, reader = run(CREATED, ADDED, HELLO)
    event = reader.error_event("cut", "upstream_error", "backend_cut")
    assert event.startswith(b"event: error\n")
    value = json.loads(event.split(b"data: ")[1])
    assert (value["type"], value["message"], value["sequence_number"]) == ("error", "cut", 3)
    assert value["error"]["code"] == "backend_cut"


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 2000), max_size=6))
def test_cuts_at_any_byte_change_nothing(cuts: list[int]) -> None:
    data = CREATED + ADDED + PART + HELLO + COMPLETED
    points = sorted({min(c, len(data)) for c in cuts} | {0, len(data)})
    out, stream, _ = run(*(data[a:b] for a, b in pairwise(points)))
    assert out == data
    assert stream.ended is SUCCESS


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80))
def test_any_event_is_read_or_broken(data: bytes) -> None:
    assert ResponseStream(PLAIN).read(data, "") in Frame


# ---- what a request continues


def test_backend_that_ignores_the_previous_response_is_unfit() -> None:
    request = parsed(store=False, previous_response_id="resp_0")
    _, stream, _ = run(CREATED, HELLO, request=request)
    assert not stream.committed
    assert stream.ended is not None
    assert (stream.ended.verdict, stream.ended.why) == (Verdict.UNFIT, Why.FORGOTTEN)
    judged, _, said = judge_response(json.dumps(response("completed", message("Hi"))).encode(), request)
    assert judge_said(said) is judged is FORGOTTEN


def test_backend_that_honours_it_serves() -> None:
    request = parsed(previous_response_id="resp_0", conversation={"id": "conv_1"})
    honest = {"previous_response_id": "resp_0", "conversation": {"id": "conv_1"}}
    _, stream, _ = run(frame("response.created", response=response(**honest)), HELLO, COMPLETED, request=request)
    assert stream.committed
    whole = json.dumps(response("completed", message("Hi"), **honest)).encode()
    assert judge_response(whole, request)[0] is SUCCESS


# ---- JSON


ANSWERS: list[tuple[Any, Why]] = [
    (response("completed", message("Hi")), Why.ANSWERED),
    (response("completed", {"type": "reasoning", "summary": [{"text": "Hm"}]}), Why.ANSWERED),
    (response("completed", {"type": "message", "content": [{"type": "refusal", "refusal": "No"}]}), Why.ANSWERED),
    (response("completed", {"type": "function_call", "name": "f", "arguments": "{}"}), Why.ANSWERED),
    (response("completed", message("Hi"), usage="odd"), Why.ANSWERED),
    (response("queued"), Why.ANSWERED),
    (response("completed"), Why.EMPTY),
    (response("completed", message("")), Why.EMPTY),
    ({}, Why.EMPTY),
    (response("failed"), Why.ERROR_EVENT),
    ({"error": {"message": "x"}}, Why.ERROR_EVENT),
    ({"output": "x"}, Why.BROKEN_JSON),
    ([], Why.BROKEN_JSON),
]


@pytest.mark.parametrize(("value", "why"), ANSWERS)
def test_worth_of_a_json_answer(value: Any, why: Why) -> None:
    assert judge_response(json.dumps(value).encode(), PLAIN)[0].why is why


def test_usage_and_id_of_a_json_answer() -> None:
    body = json.dumps(response("completed", message("Hi"), usage=USAGE)).encode()
    assert judge_response(body, PLAIN)[1] == Usage(5, 2)
    assert response_id(body) == "resp_1"
    assert response_id(b"{") == ""
