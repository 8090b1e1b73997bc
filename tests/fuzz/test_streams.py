"""Streams of events from bytes: cut anywhere, the client gets the same bytes and the attempt the same verdict."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fuzz.wire import CUTS, pieces

from pointsman.dialects.openai_answer import ChatStream
from pointsman.dialects.sse import EventStream
from pointsman.simulator.openai_bytes import DONE, FINISH, ROLE, USAGE_FRAME, delta, event

ENDS = st.sampled_from([b"\n"] * 4 + [b"\r\n", b"\r"])
DATA = st.sampled_from(
    [
        ROLE, FINISH, USAGE_FRAME, delta("wörter"), delta(""), delta(None), delta(tool_calls=[{"index": 0}]),
        {"error": {"message": "x"}},
        {"error": None}, {"choices": []}, {"choices": None}, {}, [], b"[DONE]", b"[DONE] ", b"{", b"null", b"\xff\xfe",
        b'{"choices":[{"delta":{"content":"\xc3', b'{"choices":[{"index":1,"delta":{"content":"b"}}]}', DONE,
        b'{"choices":[{"index":1,"delta":{},"finish_reason":"stop"}]}',
        b'{"usage":{"prompt_tokens":"many"},"choices":[]}',
    ]
)  # fmt: skip


@st.composite
def frame(draw: st.DrawFn) -> bytes:
    kind = draw(st.integers(0, 9))
    end = draw(ENDS)
    if kind < 6:
        return event(draw(DATA)).replace(b"\n", end)
    if kind == 6:
        return (
            draw(
                st.sampled_from(
                    [b": ping", b":", b"event: error", b"id: 3", b"retry: 9", b"data", b"\xef\xbb\xbfdata: {}"]
                )
            )
            + end
        )
    if kind == 7:
        two = event(draw(DATA)).split(b":", 1)[-1].rstrip(b"\n")
        return b"event: message" + end + b"data:" + two[:9] + end + b"data:" + two[9:] + end + end
    if kind == 8:
        return end * draw(st.integers(1, 4))
    return draw(st.binary(max_size=12))


STREAMS = st.lists(frame(), max_size=8).map(b"".join)


def through(parts: list[bytes], hide: bool, clean: bool) -> tuple[bytes, bool, object, object]:
    stream = EventStream(ChatStream(False), hide_usage=hide)
    out = b"".join(stream.feed(part) for part in parts if part)
    out += stream.finish(clean)
    # An empty line more between two events says nothing.
    return re.sub(rb"\n\n+", b"\n\n", out).lstrip(b"\n"), stream.committed, stream.ended, stream.reader.usage


@settings(max_examples=1500, deadline=None)
@given(STREAMS, CUTS, st.booleans(), st.booleans())
def test_streams_are_the_same_however_they_are_cut(data: bytes, cuts: list[int], hide: bool, clean: bool) -> None:
    whole = through([data], hide, clean)
    assert through(pieces(data, cuts), hide, clean) == whole
    assert through([bytes((b,)) for b in data], hide, clean) == whole


@settings(max_examples=700, deadline=None)
@given(STREAMS, st.booleans(), st.booleans())
def test_nothing_goes_out_before_content_and_done_comes_at_most_once(data: bytes, hide: bool, clean: bool) -> None:
    out, committed, ended, _ = through([data], hide, clean)
    assert ended is not None
    assert committed or not out
    assert out.count(b"data: [DONE]\n\n") <= 1
