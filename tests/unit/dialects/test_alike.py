"""Events that are like the last pass unread, and nothing else does: what comes of a stream is what reading gives."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.dialects.alike import Alike
from pointsman.dialects.openai_answer import ChatStream
from pointsman.dialects.openai_completions import open_text_stream
from pointsman.dialects.request import ChatRequest
from pointsman.dialects.sse import EventReader, EventStream, Frame
from pointsman.domain.verdict import Why


class Counting:
    """A reader that counts what it reads; with `blind` it never says what could be another text. No `ChatStream` by its
    class: a compiled one has no heirs."""

    def __init__(self, blind: bool) -> None:
        self.reader = ChatStream()
        self.blind = blind
        self.count = 0

    def read(self, data: bytes, event: str) -> Frame:
        self.count += 1
        return self.reader.read(data, event)

    def text(self) -> bytes:
        return b"" if self.blind else self.reader.text()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.reader, name)


def watched(blind: bool = False) -> tuple[EventStream, Counting]:
    reader = Counting(blind)
    return EventStream(cast(EventReader, reader), hide_usage=True), reader


def event(text: bytes, **more: object) -> bytes:
    """A delta as vLLM writes it; `text` is put between the quotes as it is."""
    choice = {"index": 0, "delta": {"content": "?"}, "logprobs": None, "finish_reason": None, **more}
    value = {"id": "c-1", "object": "chat.completion.chunk", "created": 1763800000, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(value).encode().replace(b'"?"', b'"' + text + b'"') + b"\n\n"


def outcome(pieces: list[bytes], blind: bool) -> tuple[object, ...]:
    stream, reader = watched(blind)
    out, advanced = b"", []
    for piece in pieces:
        out += stream.feed(piece)
        advanced.append(stream.progress)
    out += stream.finish(clean=True)
    return out, advanced, stream.ended, stream.committed, reader.finished, reader.usage, reader.content


TEXTS = [b"a", b" token", b"token", "é".encode(), "猫".encode(), b"", b"\\n", b'\\"', b'"', b'","x":"', b"\\",
         b"\\u00e9", b"\\ud800", b"\t", b"\x01", b"\x7f", b"\xff", b"{}", b"data: ", b"\n\n", b"\r\n"]  # fmt: skip
OTHERS = [
    event(b"", finish_reason="stop"), event(b"x", finish_reason="stop"), event(b"x", index=1), b": ping\n\n",
    b"data: [DONE]\n\n", b'data: {"error": {"message": "x"}}\n\n', b"data: {\n\n", event(b"x").replace(b"\n", b"\r\n"),
    b'data: {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}\n\n', b"event: x\n" + event(b"x"),
    event(b"x", delta={"content": "a", "tool_calls": [{"index": 0}]}), event(b"x", delta={"reasoning_content": "?"}),
    event(b"x", delta={"role": "assistant", "content": ""}), event(b"1").replace(b"1763800000", b"1763800001"),
]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.one_of(st.sampled_from(TEXTS).map(event), st.sampled_from(OTHERS)), max_size=12),
    st.lists(st.integers(0, 5000), max_size=10),
)
def test_a_stream_means_the_same_read_or_not(events: list[bytes], cuts: list[int]) -> None:
    data = b"".join([event(b"first"), event(b"second"), *events])
    places = sorted({c % (len(data) + 1) for c in cuts})
    pieces = [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True) if a != b]
    assert outcome(pieces, blind=False) == outcome(pieces, blind=True)
    assert outcome([data], blind=False) == outcome([data], blind=True)


@pytest.mark.parametrize("following", [*map(event, TEXTS), *OTHERS])
def test_each_of_them_means_the_same_read_or_not(following: bytes) -> None:
    pieces = [event(b"first"), event(b"second"), following, event(b"last")]
    assert outcome(pieces, blind=False) == outcome(pieces, blind=True)
    assert outcome([b"".join(pieces)], blind=False) == outcome([b"".join(pieces)], blind=True)


@pytest.mark.parametrize("at_once", [1, 7])
def test_most_events_pass_unread(at_once: int) -> None:
    stream, reader = watched()
    events = [event(b"word%d" % n) for n in range(71)]
    assert stream.feed(events[0]) == events[0]
    for start in range(1, 71, at_once):
        data = b"".join(events[start : start + at_once])
        assert stream.feed(data) == data
        assert stream.progress
    assert reader.count == 1


def test_what_reading_has_to_see_is_read() -> None:
    stream, reader = watched()
    stream.feed(event(b"a") + event(b"b"))
    for text in (b"\\n", b"", b"\x7f", "\u200b".encode()):
        before = reader.count
        assert stream.feed(event(text)) == event(text)
        assert reader.count == before + 1, text
        stream.feed(event(b"a"))
    assert stream.feed(event(b"\xff")) == b""
    assert stream.ended is not None
    assert stream.ended.why is Why.BROKEN_STREAM


def test_reasoning_is_text_too() -> None:
    stream, reader = watched()
    for n in range(5):
        stream.feed(event(b"hm%d" % n, delta={"reasoning_content": "?"}))
    assert reader.count == 1


def test_after_a_few_in_vain_nothing_is_learnt() -> None:
    alike = Alike()
    for n in range(20):
        alike.learn(event(b"x", index=n), b'"x"')
        assert alike.known is (n < 8)
        assert not alike.known or alike.length(event(b"x", index=n + 1)) == 0


def test_a_text_that_stands_there_twice_is_not_learnt() -> None:
    alike = Alike()
    alike.learn(event(b"index"), b'"index"')
    assert not alike.known


def test_events_of_other_operations_are_read() -> None:
    reader = open_text_stream(ChatRequest(b"", "m", True, False, False, (0, 0), None))
    assert reader.read(b'{"choices":[{"index":0,"text":"x","finish_reason":null}]}', "") is Frame.CONTENT
    assert reader.text() == b""
