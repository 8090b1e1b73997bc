"""A stream means the same however it is cut into pieces, and goes on byte for byte."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.dialects.openai_answer import ChatStream
from pointsman.dialects.sse import EventStream
from pointsman.domain.verdict import EMPTY, INCOMPLETE, SUCCESS, Verdict, Why


def frame(value: object) -> bytes:
    return b"data: " + (value if isinstance(value, bytes) else json.dumps(value, ensure_ascii=False).encode()) + b"\n\n"


def delta(content: str | None, finish: str | None = None, index: int = 0) -> bytes:
    part = {} if content is None else {"content": content}
    return frame({"choices": [{"index": index, "delta": part, "finish_reason": finish}]})


ROLE = frame({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]})
USAGE = frame({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}})
DONE = frame(b"[DONE]")
PING = b": ping\n\n"
END = delta(None, "stop")
ERROR = frame({"error": {"message": "x"}})
BROKEN = frame(b"{")


def run(data: bytes, cuts: list[int], *, hide: bool = True, clean: bool = True) -> tuple[bytes, EventStream]:
    stream = EventStream(ChatStream(), hide_usage=hide)
    out = b""
    places = sorted({c % (len(data) + 1) for c in cuts})
    for start, end in zip([0, *places], [*places, len(data)], strict=True):
        if start != end:
            out += stream.feed(data[start:end])
    out += stream.finish(clean)
    return out, stream


FRAMES = st.lists(
    st.sampled_from(
        [ROLE, PING, USAGE, DONE, END, ERROR, BROKEN, delta("hé"), delta("x", index=1), delta(None, "stop", 1)]
    ),
    max_size=8,
)


@settings(max_examples=500, deadline=None)
@given(FRAMES, st.lists(st.integers(0, 2000), max_size=12), st.sampled_from([b"\n", b"\r\n", b"\r"]), st.booleans())
def test_pieces_do_not_matter(frames: list[bytes], cuts: list[int], ending: bytes, clean: bool) -> None:
    data = b"".join(frames)
    whole, one = run(data, [], clean=clean)
    pieces, other = run(data.replace(b"\n", ending), cuts, clean=clean)
    assert pieces == whole
    assert other.ended == one.ended
    assert other.committed == one.committed


@settings(max_examples=500, deadline=None)
@given(FRAMES, st.lists(st.integers(0, 2000), max_size=12))
def test_promises_on_any_stream(frames: list[bytes], cuts: list[int]) -> None:
    out, stream = run(b"".join(frames), cuts)
    ended = stream.ended
    assert ended is not None
    assert bool(out) <= stream.committed, "nothing goes on before the commit point"
    assert out.count(b"[DONE]") == (1 if ended is SUCCESS else 0)
    if ended is SUCCESS:
        assert out.endswith(DONE)
        assert stream.reader.finished
    assert b'"error"' not in out
    assert b'"usage"' not in out
    for text in out.split(b"\n\n")[:-1]:
        assert text + b"\n\n" in (*frames, DONE), "frames go on as they came"


@pytest.mark.parametrize(
    ("frames", "clean", "verdict", "why"),
    [
        ([ROLE, delta("x"), END, DONE], True, Verdict.SUCCESS, Why.ANSWERED),
        ([ROLE, delta("x"), END], True, Verdict.SUCCESS, Why.ANSWERED),
        ([ROLE, delta("x"), END], False, Verdict.SUCCESS, Why.ANSWERED),
        ([ROLE, delta("x")], True, Verdict.FAILURE, Why.INCOMPLETE),
        ([ROLE, delta("x")], False, Verdict.FAILURE, Why.CUT),
        ([ROLE, delta("x"), DONE], True, Verdict.FAILURE, Why.INCOMPLETE),
        ([ROLE, END, DONE], True, Verdict.FAILURE, Why.EMPTY),
        ([DONE], True, Verdict.FAILURE, Why.EMPTY),
        ([], True, Verdict.FAILURE, Why.EMPTY),
        ([], False, Verdict.FAILURE, Why.CUT),
        ([PING] * 9, True, Verdict.FAILURE, Why.EMPTY),
        ([delta(None, "content_filter"), DONE], True, Verdict.SUCCESS, Why.ANSWERED),
        ([delta(None, "length"), USAGE, DONE], True, Verdict.SUCCESS, Why.ANSWERED),
        ([delta("x"), delta("y", index=1), END, DONE], True, Verdict.FAILURE, Why.INCOMPLETE),
        ([delta("x"), delta("y", index=1), END, delta(None, "stop", 1), DONE], True, Verdict.SUCCESS, Why.ANSWERED),
        ([ERROR], True, Verdict.FAILURE, Why.ERROR_EVENT),
        ([BROKEN], True, Verdict.FAILURE, Why.BROKEN_STREAM),
        ([delta("x"), delta("é").replace(b"\xc3\xa9", b"\xe9"), END], True, Verdict.FAILURE, Why.BROKEN_STREAM),
    ],
)
def test_how_streams_end(frames: list[bytes], clean: bool, verdict: Verdict, why: Why) -> None:
    _, stream = run(b"".join(frames), [], clean=clean)
    assert stream.ended is not None
    assert (stream.ended.verdict, stream.ended.why) == (verdict, why)


def test_held_frames_go_out_with_the_first_content() -> None:
    stream = EventStream(ChatStream(), hide_usage=True)
    assert stream.feed(ROLE + PING) == b""
    assert not stream.committed
    assert stream.feed(delta("x")) == ROLE + PING + delta("x")
    assert stream.committed
    assert stream.feed(PING) == PING


def test_usage_is_shown_to_who_asked() -> None:
    out, _ = run(delta("x", "stop") + USAGE + DONE, [], hide=False)
    assert USAGE in out


def test_nothing_follows_the_end() -> None:
    stream = EventStream(ChatStream(), hide_usage=True)
    stream.feed(delta("x", "stop") + DONE)
    assert stream.feed(delta("more")) == b""
    assert stream.finish(True) == b""


def test_constants_are_the_judgements() -> None:
    assert EMPTY.by_answer
    assert not INCOMPLETE.by_answer
