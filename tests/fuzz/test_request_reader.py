"""Requests from bytes: cut anywhere, they are the same; and no second parser reads other requests out of them.

The second parser is h11. It may refuse what we take, and we refuse much that it takes; what must not happen is that
both take the same bytes for different requests, for that is how requests are smuggled.
"""

from __future__ import annotations

from pathlib import Path

import h11
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.fuzz.wire import CUTS, pieces, request, requests

from pointsman.gateway.front.request_reader import RequestReader
from pointsman.gateway.limits import Limits

CORPUS = sorted((Path(__file__).parent / "corpus" / "requests").iterdir())
Seen = tuple[bytes, bytes, bytes]
"""Method, path, body."""


def ours(parts: list[bytes]) -> tuple[list[Seen], int, bool]:
    """What we take, the status of our complaint (0: none), and whether we would read on."""
    reader = RequestReader(Limits())
    found = []
    for part in parts:
        if reader.error is not None or reader.upgraded:
            break
        reader.feed(part)
        while reader.ready:
            request = reader.ready.pop(0)
            found.append((request.method, request.path, request.body))
            if not request.keep_alive:
                # The connection ends behind its answer: what follows is thrown away.
                return found, 0, False
    return found, reader.error.status if reader.error is not None else 0, not reader.upgraded


def theirs(data: bytes) -> tuple[list[Seen], bool]:
    """What h11 takes, and whether it was content to the end."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(data)
    found: list[Seen] = []
    method = path = body = b""
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                method, path, body = event.method, event.target.partition(b"?")[0], b""
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                found.append((method, path, body))
                connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
                connection.send(h11.EndOfMessage())
                if connection.our_state is not h11.DONE:
                    return found, True
                connection.start_next_cycle()
            elif event is h11.PAUSED:
                # An upgrade was offered and is declined.
                connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
                connection.send(h11.EndOfMessage())
                if connection.our_state is not h11.DONE:
                    return found, True
                connection.start_next_cycle()
            else:
                return found, True
    except (h11.RemoteProtocolError, h11.LocalProtocolError):
        return found, False


def agree(data: bytes) -> None:
    """No request that both take may differ; h11 may not find more than we have before we stopped."""
    mine, status, open_ = ours([data])
    other, content = theirs(data)
    for a, b in zip(mine, other, strict=False):
        # A tunnel is refused, and its connection ends: what follows is nobody's request.
        assert a == b or a[0] == b"CONNECT"
    if content and not status and open_:
        assert len(mine) == len(other), (mine, other)
    if content and open_:
        assert len(mine) <= len(other), (mine, other)


@settings(max_examples=800, deadline=None)
@given(requests(), CUTS)
@example(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", [])
def test_requests_are_the_same_however_they_are_cut(data: bytes, cuts: list[int]) -> None:
    whole = ours([data])
    assert ours(pieces(data, cuts)) == whole
    assert ours([bytes((b,)) for b in data]) == whole


LENGTHS = st.sampled_from([b"0", b"1", b"5", b"05", b"5 ", b"\t5", b"11", b"+5", b"5\r\nx: y", b"", b"300"])
BODY = st.sampled_from([b"", b"a", b"hello", b"hello world", b"hell", b"hello\r\n", b"x" * 300])


@st.composite
def alike(draw: st.DrawFn) -> list[bytes]:
    """What a program sends: the same head again and again, with other bodies; and what only looks like that."""
    before, after = draw(st.sampled_from(HEADS))
    usual = st.sampled_from([b"hello", b"hello world", b"a" * 77]).map(lambda b: (b"%d" % len(b), b))
    messages = [
        before + length + after + body
        for length, body in draw(st.lists(st.one_of(usual, st.tuples(LENGTHS, BODY)), min_size=2, max_size=5))
    ]
    return [*messages, draw(request()), *draw(st.permutations(messages))]


HEADS = [
    (b"POST /v1/x HTTP/1.1\r\nhost: a\r\ncontent-length: ", b"\r\n\r\n"),
    (b"POST /v1/x?y HTTP/1.1\r\nHost: a\r\nContent-Length:", b"\r\nexpect: 100-continue\r\n\r\n"),
    (b"POST /v1/x HTTP/1.1\r\ncontent-length: ", b"\r\nhost: a\r\nconnection: close\r\n\r\n"),
    (b"POST /v1/x HTTP/1.1\r\nhost: a\r\nx-a: b\r\n content-length: 3\r\ncontent-length: ", b"\r\n\r\n"),
    (b"POST /v1/x HTTP/1.1\r\nhost: a\r\nupgrade: h2c\r\ncontent-length: ", b"\r\nconnection: upgrade\r\n\r\n"),
    (b"POST /v1/x HTTP/1.0\r\nconnection: keep-alive\r\ncontent-length: ", b"\r\n\r\n"),
]


@settings(max_examples=1000, deadline=None)
@given(alike())
def test_a_head_that_was_read_before_changes_nothing(messages: list[bytes]) -> None:
    assert ours(messages) == ours([bytes((b,)) for b in b"".join(messages)])


@settings(max_examples=2000, deadline=None)
@given(requests())
def test_no_other_parser_reads_other_requests(data: bytes) -> None:
    agree(data)


@pytest.mark.parametrize("path", CORPUS, ids=lambda p: p.stem)
def test_remembered_requests(path: Path) -> None:
    """`ok2-name` is taken as two requests, `400-name` is refused with 400 (after none), `1-400-name` after one."""
    data = path.read_bytes()
    found, status, _ = ours([data])
    assert ours([bytes((b,)) for b in data]) == ours([data])
    agree(data)
    first, second, *_ = path.stem.split("-")
    if first.startswith("ok"):
        assert (len(found), status) == (int(first[2:]), 0)
    elif len(first) == 1:
        assert (len(found), status) == (int(first), int(second))
    else:
        assert (len(found), status) == (0, int(first))
