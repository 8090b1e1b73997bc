"""Requests from bytes: cut anywhere, they are the same; and no second parser reads other requests out of them.

The second parser is h11. It may refuse what we take, and we refuse much that it takes; what must not happen is that
both take the same bytes for different requests, for that is how requests are smuggled.
"""

from __future__ import annotations

from pathlib import Path

import h11
import pytest
from hypothesis import example, given, settings
from tests.fuzz.wire import CUTS, pieces, requests

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
            request = reader.ready.popleft()
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
