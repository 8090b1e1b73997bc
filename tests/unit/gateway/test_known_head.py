"""Heads that were read before: which messages have the same one."""

from __future__ import annotations

from pointsman.gateway.upstream.known_head import KnownHeads, known_head

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nContent-Length: %d\r\naccept: */*\r\n\r\n"


def message(body: bytes) -> bytes:
    return HEAD % len(body) + body


def test_the_same_head_has_other_bodies() -> None:
    known = known_head(message(b"hello"), b"hello", {b"host": b"a", b"content-length": b"5"})
    assert known is not None
    for body in (b"world", b"hello", b"", b"a longer one", b"a" * 12345):
        assert known.body(message(body)) == body
        assert known.headers == {b"host": b"a", b"content-length": b"%d" % len(body)}


def test_what_is_not_exactly_that_message_is_not_found() -> None:
    known = known_head(message(b"hello"), b"hello", {b"content-length": b"5"})
    assert known is not None
    whole = message(b"world!")
    for other in (
        whole[:-1], whole + b"x", whole.replace(b"accept", b"Accept"), whole.replace(b"host", b"Host"),
        whole.replace(b": 6", b": +6"), whole.replace(b": 6", b":6"), whole.replace(b": 6", b": 6 "), whole[:40], b"",
        whole.replace(b": 6", b": 000000006"), whole.replace(b": 6", b": "),
    ):  # fmt: skip
        assert known.body(other) is None
    assert known.body(whole) == b"world!"


def test_heads_that_say_their_length_in_another_way_are_not_remembered() -> None:
    for head in (
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\ncontent-length: 1\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 1 \r\n\r\n",
        b"POST / HTTP/1.1\r\nx-content-length: 1\r\n\r\n",
        b"\r\n\r\nPOST / HTTP/1.1\r\ncontent-length: 1\r\n\r\n",
    ):
        headers = {b"transfer-encoding": b"chunked"} if b"chunked" in head else {}
        assert known_head(head + b"x", b"x", headers) is None


def test_where_heads_never_come_again_few_are_remembered() -> None:
    heads = KnownHeads()
    remembered = 0
    for n in range(160):
        if heads.worth_it():
            remembered += 1
            heads.last = known_head(message(b"%d" % n), b"%d" % n, {})
    assert remembered == 10
    assert heads.last is not None
    heads.last.body(message(b"again"))
    assert heads.worth_it()
