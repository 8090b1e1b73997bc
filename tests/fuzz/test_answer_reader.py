"""Answers from bytes: cut anywhere, they are the same; and a second parser reads no other body out of them."""

from __future__ import annotations

from pathlib import Path

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fuzz.wire import CUTS, answers, pieces

from pointsman.gateway.limits import Limits
from pointsman.gateway.upstream.answer_reader import AnswerReader
from pointsman.gateway.upstream.known_head import KnownHeads

CORPUS = sorted((Path(__file__).parent / "corpus" / "answers").iterdir())


def ours(
    parts: list[bytes], *, end: bool = False, known: KnownHeads | None = None
) -> tuple[int, bytes, bool, bool, bool]:
    """Status, body, whole, broken, may be used again. `end`: the backend closes behind it."""
    reader = AnswerReader(Limits(), known)
    for part in parts:
        if reader.fault is None:
            reader.feed(part)
    if end and reader.fault is None and not reader.complete:
        reader.eof()
    reusable = reader.complete and reader.keep_alive and not reader.residue and reader.fault is None
    body = b"".join(reader.pieces)
    broken = reader.fault is not None and not reader.complete
    return reader.status, body if reader.complete else b"", reader.complete, broken, reusable


def theirs(data: bytes, *, end: bool) -> tuple[int, bytes, bool, bool]:
    """Status, body, whole, content."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    connection.send(h11.Request(method="POST", target="/", headers=[("host", "a"), ("content-length", "0")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(data)
    if end:
        connection.receive_data(b"")
    status, body = 0, b""
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.InformationalResponse):
                if event.status_code == 101:
                    return 101, b"", False, False
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return status, body, True, True
            else:
                return status, body, False, True
    except (h11.RemoteProtocolError, h11.LocalProtocolError):
        return status, body, False, False


def agree(data: bytes, end: bool) -> None:
    status, body, whole, _, _ = ours([data], end=end)
    other_status, other_body, other_whole, content = theirs(data, end=end)
    if whole and content:
        assert other_whole, (status, body)
        assert (status, body) == (other_status, other_body)


@settings(max_examples=500, deadline=None)
@given(answers(), CUTS)
def test_answers_are_the_same_however_they_are_cut(data: bytes, cuts: list[int]) -> None:
    """What is whole stays whole, with the same body; and what may be used again may be used again."""
    for end in (False, True):
        whole = ours([data], end=end)
        assert ours(pieces(data, cuts), end=end) == whole
        assert ours([bytes((b,)) for b in data], end=end) == whole


LENGTHS = st.sampled_from([b"0", b"1", b"5", b"05", b"5 ", b"11", b"+5", b"5\r\nx: y", b"", b"300"])
BODY = st.sampled_from([b"", b"a", b"hello", b"hello world", b"hell", b"hello\r\n", b"x" * 300])
USUAL = st.sampled_from([b"hello", b"hello world", b"a" * 77]).map(lambda b: (b"%d" % len(b), b))
HEADS = st.sampled_from(
    [
        (b"HTTP/1.1 200 OK\r\ncontent-type: a\r\nContent-Length: ", b"\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\ncontent-length:", b"\r\nconnection: close\r\ndate: x\r\n\r\n"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: ", b"\r\n\r\n"),
        (b"HTTP/1.1 503 Busy\r\nretry-after: 3\r\ncontent-length: ", b"\r\n\r\n"),
        (b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: ", b"\r\n\r\n"),
    ]
)


@settings(max_examples=1000, deadline=None)
@given(HEADS, st.lists(st.one_of(USUAL, st.tuples(LENGTHS, BODY)), min_size=2, max_size=6))
def test_a_head_that_was_read_before_changes_nothing(
    head: tuple[bytes, bytes], answers: list[tuple[bytes, bytes]]
) -> None:
    """Many connections know the heads of one backend; each reads as if it knew none."""
    known = KnownHeads()
    for length, body in answers:
        data = head[0] + length + head[1] + body
        assert ours([data], known=known) == ours([data]) == ours([bytes((b,)) for b in data])


@settings(max_examples=1200, deadline=None)
@given(answers())
def test_no_other_parser_reads_another_answer(data: bytes) -> None:
    agree(data, end=False)
    agree(data, end=True)


@pytest.mark.parametrize("path", CORPUS, ids=lambda p: p.stem)
def test_remembered_answers(path: Path) -> None:
    """`again-name` is whole and its connection may be used again, `once-name` is whole, `end-name` is whole when the
    connection ends, `broken-name` is not HTTP/1.1, `part-name` waits for more."""
    data = path.read_bytes()
    what = path.stem.partition("-")[0]
    _, _, whole, broken, reusable = ours([data])
    assert ours([bytes((b,)) for b in data]) == ours([data])
    agree(data, end=False)
    agree(data, end=True)
    kinds = {(True, False, True): "again", (True, False, False): "once", (False, True, False): "broken"}
    found = kinds.get((whole, broken, reusable)) or ("end" if ours([data], end=True)[2] else "part")
    assert found == what
