"""Bodies of chat requests: what is sent on is, as JSON, what came, but for the model's name and the usage option."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.dialects import known_body
from pointsman.dialects.openai import ChatRequest, compose, parse_chat

SPACE = st.sampled_from([""] * 8 + [" ", "\n", "\t", "\r\n", "  "])
KEYS = st.sampled_from(
    ["model"] * 4
    + ["stream", "stream", "stream_options", "stream_options", "stop", "messages", "messages", "user", "x", "",
       "mod\\u0065l",
       "\\u006dodel", "str\\u0065am", "mödel", "a\\\"model\\\":", "model\\n"]
)  # fmt: skip
VALUES = st.sampled_from(
    ['"m"', '"m"', '"m"', '"\\u006d"', '"\\""', '"m\\/n"', '""', "true", "false", "null", "1", "-0.0", "1e400",
     "[]", "{}",
     '[{"role":"user","content":"\\"model\\":\\"x\\""}]', '[{"model":"x","stream":true}]', '{"include_usage":true}',
     '{"include_usage":false,"x":[1]}', '{"model":"y"}', '["]", "}"]', '"\\ud83d\\ude00"', '"\\ud83d"',
     "12345678901234567890123",
     '"' + "ü" * 40 + '"', "nul", '"open', "01"]
)  # fmt: skip


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    pairs = []
    if draw(st.integers(0, 4)):
        pairs.append(f'"model":{draw(SPACE)}"{draw(st.sampled_from(["m", "a/b:c", "ü", "x"]))}"')
    for _ in range(draw(st.integers(0, 4))):
        pairs.append(f'{draw(SPACE)}"{draw(KEYS)}"{draw(SPACE)}:{draw(SPACE)}{draw(VALUES)}{draw(SPACE)}')
    text = draw(SPACE) + "{" + ",".join(draw(st.permutations(pairs))) + draw(SPACE) + "}" + draw(SPACE)
    data = text.encode()
    if draw(st.integers(0, 5)) == 0:
        at = draw(st.integers(0, len(data) - 1))
        data = (
            data[:at] + draw(st.sampled_from([b"", b"\x00", b"\xff", b'"', b",", b"}", b"\\", b" "])) + data[at + 1 :]
        )
    return data


@settings(max_examples=2000, deadline=None)
@given(bodies(), st.sampled_from(["served", 'qu"ote', "ünï"]), st.booleans())
def test_only_what_must_change_changes(body: bytes, name: str, ask: bool) -> None:
    chat = parse_chat(body)
    if not isinstance(chat, ChatRequest):
        assert 400 <= chat.status < 500
        return
    text = _text(body)
    pairs: list[tuple[str, Any]] = json.loads(text, object_pairs_hook=list)
    keys = [k for k, _ in pairs]
    assert keys.count("model") == 1, "a backend might read another model than we did"
    assert keys.count("stream") <= 1
    value = json.loads(text)
    assert value["model"] == chat.model
    assert (value.get("stream") is True) == chat.stream
    sent = json.loads(_text(compose(chat, name, ask_usage=ask)))
    value["model"] = name
    if chat.stream and ask:
        options = value.get("stream_options") or {}
        value["stream_options"] = options | {"include_usage": True}
    assert _same(sent, value)


def said(body: bytes) -> tuple[object, ...]:
    chat = parse_chat(body)
    if not isinstance(chat, ChatRequest):
        return (chat,)
    asked = (chat.model, chat.stream, chat.wants_usage, chat.has_stop, chat.task)
    return (*asked, chat.body, chat.model_span, chat.options_span)


MESSAGES = st.sampled_from(
    [b"[]", b'[{"role":"user","content":"hi"}]', b'[{"content":"\\"messages\\":[1]"}]', b"[1]", b"[ ]", b"[[1],[]]",
     b'[1],"model":"x"', b'[1],"x":[2]', b'[1],"messages":[2]', b"[1", b"[]]", b"null", b'"s"', b"", b" [3]", b"[3] ",
     b'[1]}{"y":[1]', b'["\\u006dodel"]', b'["' + b"long " * 20000 + b'"]']
)  # fmt: skip


@settings(max_examples=1500, deadline=None)
@given(bodies(), st.lists(MESSAGES, min_size=1, max_size=3))
def test_what_was_read_before_changes_nothing(body: bytes, messages: list[bytes]) -> None:
    """The same body with other messages, read with and without memory of those before it."""
    place = body.find(b'"messages":') + 11
    end = body.find(b"]", place) + 1 if place > 10 else 0
    others = [body[:place] + m + body[end:] for m in messages] if end else [body]
    known_body._known.clear()
    after = [said(each) for each in (body, *others)]
    for each, found in zip((body, *others), after, strict=True):
        known_body._known.clear()
        assert said(each) == found


def _text(body: bytes) -> str:
    """What is no UTF-8 outside of the fields that we read goes on as it is: its backend says what it thinks of it."""
    return body.decode("utf-8", "surrogateescape")


def _same(a: object, b: object) -> bool:
    return json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)
