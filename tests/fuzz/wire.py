"""Requests and answers as random bytes: mostly HTTP/1.1, wrong in the places where parsers disagree."""

from __future__ import annotations

import itertools

from hypothesis import strategies as st

METHODS = st.sampled_from([b"POST", b"GET", b"HEAD", b"PUT", b"OPTIONS", b"CONNECT", b"PRI", b"post", b"P OST", b""])
TARGETS = st.sampled_from(
    [
        b"/v1/chat/completions",
        b"/v1/models",
        b"/v1/models?x=1",
        b"*",
        b"http://a/v1/models",
        b"/a b",
        b"//",
        b"/\xc3\xbc",
        b"",
    ]
)
VERSIONS = st.sampled_from([b"HTTP/1.1"] * 8 + [b"HTTP/1.0", b"HTTP/2.0", b"http/1.1", b"HTTP/1.1 ", b"HTTP/1", b""])
ENDS = st.sampled_from([b"\r\n"] * 12 + [b"\n", b"\r", b"\r\r\n", b"\n\r"])
LENGTHS = st.sampled_from(
    [b"0", b"5", b"5", b"5", b"12", b"+5", b"-5", b"05", b"5 ", b" 5", b"0x5", b"5,5", b"5, 6", b"5\t", b"5;", b"",
     b"\xd9\xa5",
     b"99999999999999999999", b"5.0", b"1e1"]
)  # fmt: skip
CODINGS = st.sampled_from(
    [b"chunked"] * 6
    + [b"Chunked", b"chunked ", b" chunked", b"chunked, chunked", b"gzip, chunked", b"chunked, gzip", b"identity",
       b"xchunked",
       b"chunked;q=1", b"", b"\x0bchunked", b"chunked\x00"]
)  # fmt: skip
NAMES = st.sampled_from(
    [b"content-length"] * 3
    + [b"transfer-encoding"] * 3
    + [b"Content-Length", b"Content_Length", b"content-length ", b" content-length", b"transfer-encoding\t",
       b"host", b"connection",
       b"expect", b"upgrade", b"x-a", b"x\x00", b"x:y", b"", b"trailer", b"content-encoding"]
)  # fmt: skip
VALUES = st.sampled_from(
    [b"a", b"close", b"keep-alive", b"upgrade", b"h2c", b"100-continue", b"a\r\n b", b"a\n b", b"a\rb", b"\x00",
     b"a\x7f", b"\xff",
     b"a\r\ncontent-length: 3", b"x, close"]
)  # fmt: skip
SIZES = st.sampled_from(
    [b"5", b"5", b"5", b"0", b"0", b"05", b"a", b"A", b"0x5", b"5 ", b" 5", b"5;x", b"5;x=y", b'5;x="\r\n"',
     b"5\t", b"-5", b"+5", b"",
     b"g", b"00000000000000005", b"ffffffffffffffff", b"fffffffffffffffff", b"5\n"]
)  # fmt: skip


@st.composite
def headers(draw: st.DrawFn) -> bytes:
    out = b""
    for _ in range(draw(st.integers(0, 4))):
        name = draw(NAMES)
        low = name.strip().lower()
        if low == b"content-length":
            value = draw(LENGTHS)
        elif low == b"transfer-encoding":
            value = draw(CODINGS)
        else:
            value = draw(VALUES)
        out += name + draw(st.sampled_from([b": "] * 6 + [b":", b" : ", b":\t", b""])) + value + draw(ENDS)
    return out


@st.composite
def chunks(draw: st.DrawFn) -> bytes:
    out = b""
    for _ in range(draw(st.integers(0, 3))):
        out += draw(SIZES) + draw(ENDS) + b"hello" + draw(ENDS)
    if draw(st.booleans()):
        out += b"0" + draw(ENDS) + draw(headers()) + draw(ENDS)
    return out


BODIES = st.one_of(
    st.just(b""),
    st.just(b"hello"),
    st.just(b"hello"),
    st.just(b"hello world!"),
    chunks(),
    chunks(),
    st.binary(max_size=20),
)


@st.composite
def request(draw: st.DrawFn) -> bytes:
    """One, or what should be one."""
    if draw(st.integers(0, 3)) == 0:
        line = (
            draw(METHODS)
            + draw(st.sampled_from([b" "] * 6 + [b"  ", b"\t", b""]))
            + draw(TARGETS)
            + b" "
            + draw(VERSIONS)
        )
    else:
        line = b"POST /v1/chat/completions HTTP/1.1"
    host = draw(st.sampled_from([b"host: a\r\n"] * 6 + [b"", b"host: a\r\nhost: b\r\n", b"Host:\r\n"]))
    kind = draw(st.integers(0, 3))
    if kind == 0:
        frame, body = b"content-length: 5\r\n", b"hello"
    elif kind == 1:
        frame, body = b"transfer-encoding: chunked\r\n", draw(chunks())
    else:
        frame, body = draw(headers()), draw(BODIES)
    return line + draw(ENDS) + host + frame + draw(ENDS) + body


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """What one client sends on one connection."""
    data = b"".join(draw(st.lists(request(), min_size=1, max_size=3)))
    return _torn(draw, data)


STATUS = st.sampled_from(
    [b"HTTP/1.1 200 OK"] * 6
    + [b"HTTP/1.0 200 OK", b"HTTP/1.1 200", b"HTTP/1.1 204 No", b"HTTP/1.1 304 No", b"HTTP/1.1 100 Continue",
       b"HTTP/1.1 103 Hints",
       b"HTTP/1.1 101 Switch", b"HTTP/1.1 500 Oh", b"HTTP/1.1 999 X", b"HTTP/1.1 20 X", b"HTTP/1.1 2000 X",
       b"HTTP/2 200", b"ICY 200"]
)  # fmt: skip


@st.composite
def answer(draw: st.DrawFn) -> bytes:
    kind = draw(st.integers(0, 3))
    if kind == 0:
        frame, body = b"content-length: 5\r\n", b"hello"
    elif kind == 1:
        frame, body = b"transfer-encoding: chunked\r\n", draw(chunks())
    else:
        frame, body = draw(headers()), draw(BODIES)
    return draw(STATUS) + draw(ENDS) + frame + draw(ENDS) + body


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    return _torn(draw, b"".join(draw(st.lists(answer(), min_size=1, max_size=2))))


def _torn(draw: st.DrawFn, data: bytes) -> bytes:
    """Sometimes a byte is changed, doubled or lost."""
    if data and draw(st.integers(0, 2)) == 0:
        at = draw(st.integers(0, len(data) - 1))
        new = draw(
            st.sampled_from([b"", b"\r", b"\n", b"\r\n", b" ", b"\x00", b":", b"0", b"\xff", data[at : at + 1] * 2])
        )
        data = data[:at] + new + data[at + 1 :]
    return data


CUTS = st.lists(st.integers(0, 400), max_size=8)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """`data` cut at those places."""
    places = sorted({min(c, len(data)) for c in cuts} | {0, len(data)})
    return [data[a:b] for a, b in itertools.pairwise(places)]
