"""The body is read at depth 1 and changed at its byte offsets, never serialised again."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.dialects import openai
from pointsman.dialects.known_body import messages_at
from pointsman.dialects.openai import compose, compose_in_place, parse_chat
from pointsman.dialects.openai_answer import judge_chat
from pointsman.dialects.request import ChatRequest, Complaint
from pointsman.domain.verdict import Verdict, Why

ASKED = ChatRequest(b"", "m", False, False, False, (0, 0), None)
TEXT = st.text(max_size=12)
KEYS = st.one_of(TEXT, st.sampled_from(["model", "stream", "stream_options", "messages", 'a"model"', "modèle"]))
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
    | st.sampled_from(["model", '"model"']),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=12,
)


@st.composite
def bodies(draw: st.DrawFn) -> tuple[bytes, dict[str, Any]]:
    fields = draw(
        st.dictionaries(KEYS.filter(lambda k: k not in ("model", "stream", "stream_options")), VALUES, max_size=5)
    )
    items = [*fields.items(), ("model", draw(TEXT.filter(bool)))]
    if draw(st.booleans()):
        items.append(("stream", draw(st.booleans())))
    if draw(st.booleans()):
        items.append(
            (
                "stream_options",
                draw(st.sampled_from([None, {}, {"include_usage": True}, {"include_usage": False, "x": [1]}])),
            )
        )
    value = dict(draw(st.permutations(items)))
    text = json.dumps(
        value,
        ensure_ascii=draw(st.booleans()),
        separators=draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t: ")])),
    )
    return draw(st.sampled_from(["", " ", "\r\n"])).encode() + text.encode("utf-8", "surrogatepass"), value


@settings(max_examples=500, deadline=None)
@given(bodies(), TEXT.filter(bool), st.booleans())
def test_only_what_must_changes(made: tuple[bytes, dict[str, Any]], name: str, ask: bool) -> None:
    body, value = made
    try:
        body.decode()
    except UnicodeDecodeError:
        return
    request = parse_chat(body)
    assert isinstance(request, ChatRequest), request
    stream = bool(value.get("stream"))
    wants = stream and bool((value.get("stream_options") or {}).get("include_usage"))
    assert (request.model, request.stream, request.wants_usage) == (value["model"], stream, wants)
    sent = json.loads(compose(request, name, ask_usage=ask))
    expected = dict(value) | {"model": name}
    if stream and ask:
        expected["stream_options"] = (value.get("stream_options") or {}) | {"include_usage": True}
    assert sent == expected
    assert b"".join(compose_in_place(request, name, ask)) == compose(request, name, ask)
    start, end = request.model_span
    assert json.loads(body[start:end]) == value["model"]
    if not (stream and ask and not wants):
        out = compose(request, name, ask_usage=ask)
        assert out.startswith(body[:start])
        assert out.endswith(body[end:])


@settings(max_examples=300, deadline=None)
@given(bodies())
def test_search_and_walk_agree(made: tuple[bytes, dict[str, Any]]) -> None:
    body, _ = made
    head = openai._head_decoder.decode(body)
    found = openai._search(body, head, bytes(head.messages), messages_at(body))
    walked = openai.walk(body)
    assert not isinstance(walked, Complaint)
    if found is not None:
        assert found[0] == walked[0]


@pytest.mark.parametrize(
    "body",
    [
        '{"model":"a","model":"a"}',
        '{"model":"a","x":1,"model":"b"}',
        '{"model":"a","\\u006dodel":"b"}',
        '{"\\u006dodel":"a","model":"b"}',
        '{"stream":true,"model":"a","stream":false}',
        '{"stream":true,"model":"a","\\u0073tream":false}',
        '{"model":"a","stream":true,"stream_options":{},"stream_options":{}}',
        '{"model":"a","x":{"model":"b"},"x":{"model":"c"}}',
    ],
)
def test_routed_key_written_twice(body: str) -> None:
    found = parse_chat(body.encode())
    assert isinstance(found, Complaint)
    assert (found.status, found.code) == (400, "duplicate_key")


@pytest.mark.parametrize(
    "body",
    [
        '{"\\u006dodel":"a"}',
        '{"messages":[{"content":"\\"model\\": \\"x\\""}],"model":"a"}',
        '{"x":"model","model":"a"}',
        '{"x":{"model":"b"},"model":"a"}',
        '{"model" :\n"a"}',
        '{"x":"' + "y" * 20_000 + '","model":"a","z":"\\\\"}',
    ],
)
def test_the_right_model_is_replaced(body: str) -> None:
    request = parse_chat(body.encode())
    assert isinstance(request, ChatRequest)
    sent = json.loads(compose(request, 'n"ew', ask_usage=False))
    assert sent == json.loads(body) | {"model": 'n"ew'}


@settings(max_examples=300)
@given(st.binary(max_size=60))
def test_any_bytes_are_parsed_or_refused(body: bytes) -> None:
    found = parse_chat(body)
    assert isinstance(found, Complaint)
    assert found.status == 400


JSON_ANSWERS: list[tuple[dict[str, Any], Verdict, Why]] = [
    ({"choices": [{"message": {"content": "x"}}]}, Verdict.SUCCESS, Why.ANSWERED),
    ({"choices": [{"message": {"content": ""}}, {"message": {"content": "x"}}]}, Verdict.SUCCESS, Why.ANSWERED),
    ({"choices": [{"message": {"content": [{"type": "text"}]}}]}, Verdict.SUCCESS, Why.ANSWERED),
    ({"choices": [{"message": {"content": None, "tool_calls": [{}]}}]}, Verdict.SUCCESS, Why.ANSWERED),
    ({"choices": [{"message": {"content": None, "tool_calls": []}}]}, Verdict.FAILURE, Why.EMPTY),
    ({"choices": [{"message": {"content": ""}, "finish_reason": "stop"}]}, Verdict.FAILURE, Why.EMPTY),
    ({"choices": [{"message": {"content": ""}, "finish_reason": "content_filter"}]}, Verdict.SUCCESS, Why.ANSWERED),
    (
        {"choices": [{"message": {}, "finish_reason": "length"}], "usage": {"completion_tokens": 9}},
        Verdict.SUCCESS,
        Why.ANSWERED,
    ),
    (
        {"choices": [{"message": {}, "finish_reason": "length"}], "usage": {"completion_tokens": 0}},
        Verdict.FAILURE,
        Why.EMPTY,
    ),
    ({"choices": [{"message": {}, "finish_reason": "stop", "stop_reason": "END"}]}, Verdict.SUCCESS, Why.ANSWERED),
    ({"choices": []}, Verdict.FAILURE, Why.EMPTY),
    ({}, Verdict.FAILURE, Why.EMPTY),
    ({"error": {"message": "x"}}, Verdict.FAILURE, Why.ERROR_EVENT),
    ({"error": None, "choices": [{"message": {"content": "x"}}]}, Verdict.SUCCESS, Why.ANSWERED),
    ({"choices": "x"}, Verdict.FAILURE, Why.BROKEN_JSON),
]


@pytest.mark.parametrize(("value", "verdict", "why"), JSON_ANSWERS)
def test_worth_of_a_json_answer(value: dict[str, Any], verdict: Verdict, why: Why) -> None:
    judged, _, _ = judge_chat(json.dumps(value).encode(), ASKED)
    assert (judged.verdict, judged.why) == (verdict, why)


@pytest.mark.parametrize("usage", ["x", [1], {"prompt_tokens": "many"}, None, {"prompt_tokens": 1.5}])
def test_odd_usage_is_unknown_and_harms_nothing(usage: Any) -> None:
    judged, found, _ = judge_chat(
        json.dumps({"choices": [{"message": {"content": "x"}}], "usage": usage}).encode(), ASKED
    )
    assert judged.verdict is Verdict.SUCCESS
    assert found is None
