"""Requests read from bytes: what the limits count."""

from __future__ import annotations

from pointsman.gateway.front.request_reader import RequestReader
from pointsman.gateway.limits import Limits

READ = 256 * 1024
"""What a socket gives at once, at most."""


def request(size: int) -> bytes:
    return b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (size, b"a" * size)


def test_large_bodies_of_one_connection_do_not_count_as_headers() -> None:
    reader = RequestReader(Limits())
    for size in (300_000, 65_536, 100_000, 1_000_000, 131_000) * 3:
        data = request(size)
        for start in range(0, len(data), READ):
            reader.feed(data[start : start + READ])
        assert reader.error is None
        assert len(reader.ready.pop(0).body) == size


def test_headers_after_a_large_body_count_from_their_own_first_byte() -> None:
    limit = 1000
    reader = RequestReader(Limits(head_bytes=limit))
    for byte in request(2 * limit):
        reader.feed(bytes((byte,)))
    assert reader.ready
    for _ in range(limit // 5):
        reader.feed(b"X: 1\r\n" if reader.in_head else b"GET / HTTP/1.1\r\n")
    assert reader.error is not None
    assert reader.error.status == 431
