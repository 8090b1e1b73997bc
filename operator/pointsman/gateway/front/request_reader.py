"""HTTP/1.1 requests read from bytes, without a socket.

Decided here: which requests are well-formed and within their limits. Not here: what a request asks for (`doors.py`).
Source: RFC 9112; parsing is llhttp's.

Invariants: one clear complaint per malformed request; a request that was complete before it is served first; nothing is
read after a complaint. No callback raises, for llhttp's binding would hide it.
"""

from __future__ import annotations

from collections.abc import Set
from typing import cast

import httptools

from pointsman.dialects.request import Complaint
from pointsman.gateway.limits import Limits
from pointsman.gateway.upstream.known_head import KnownHeads, known_head

ALWAYS_WANTED = frozenset(
    (
        b"host", b"content-length", b"transfer-encoding", b"content-encoding", b"expect", b"x-request-id",
        b"traceparent", b"tracestate", b"x-pointsman-fallback", b"x-pointsman-task-type",
    )
)  # fmt: skip
"""Headers that are kept whatever the routes ask about."""
_ONCE = frozenset((b"host", b"content-length", b"transfer-encoding"))


class Request:
    """A whole request."""

    __slots__ = ("body", "headers", "http10", "keep_alive", "method", "path", "query")

    def __init__(
        self, method: bytes, path: bytes, headers: dict[bytes, bytes], body: bytes, keep_alive: bool, http10: bool,
        query: bytes = b"",
    ) -> None:  # fmt: skip
        self.query = query
        """What follows the path's question mark."""
        self.method = method
        self.path = path
        """Without the query."""
        self.headers = headers
        """Those that matter to us, lower case."""
        self.body = body
        self.keep_alive = keep_alive
        self.http10 = http10


class RequestReader:
    """Reads the requests of one connection. After `feed`: `ready` holds whole requests, `error` what was wrong."""

    __slots__ = (
        "_between", "_head_size", "_headers", "_heads", "_in_head", "_known", "_limits", "_parser", "_pieces", "_size",
        "_url", "_wanted", "_without_upgrade", "continue_wanted", "error", "ready", "upgraded",
    )  # fmt: skip

    def __init__(self, limits: Limits, wanted: Set[bytes] = ALWAYS_WANTED) -> None:
        """`wanted` are the headers that are kept, in lower case; it may change while the reader lives, and then
        `forget` must be called."""
        self._limits = limits
        self._wanted = wanted
        self._parser = httptools.HttpRequestParser(self)
        self.ready: list[Request] = []
        self.error: Complaint | None = None
        self.continue_wanted = False
        """The client waits for `100 Continue` before it sends its body."""
        self.upgraded = False
        """A tunnel was asked for: what follows is no HTTP. The request gets its answer and the connection ends."""
        self._without_upgrade: bytes | None = None
        self._known = KnownHeads()
        self._between = True
        """The parser has seen a request to its end, and nothing behind it."""
        self._heads = 0
        self._head_size = 0
        self._in_head = True
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._pieces: list[bytes] = []
        self._size = 0

    @property
    def in_head(self) -> bool:
        """A head has begun and is not whole."""
        return self._in_head and self._head_size > 0

    @property
    def in_body(self) -> bool:
        return not self._in_head

    @property
    def body_size(self) -> int:
        """Bytes of the unfinished body so far."""
        return self._size

    def forget(self) -> None:
        """Other headers are wanted from now on."""
        self._known.forget()

    def close(self) -> None:
        """Nothing more comes. Parser and reader know each other: without this only the garbage collector, which looks
        seldom, would end them."""
        self._parser = cast(httptools.HttpRequestParser, None)

    def feed(self, data: bytes) -> None:
        between = self._between
        if between:
            known = self._known.last
            if known is not None:
                body = known.body(data)
                if body is not None and len(body) <= self._limits.body_bytes:
                    self.ready.append(Request(known.method, known.path, known.headers, body, True, False, known.query))
                    return
        limit = self._limits.head_bytes
        if len(data) > limit and not self._is_body(len(data)):
            # In pieces, so that a head cannot grow beyond its limit unseen.
            start = 0
            while start < len(data) and self.error is None and not self.upgraded:
                end = len(data) if self._is_body(len(data) - start) else start + limit
                self.feed(data[start:end])
                start = end
            return
        heads, in_head = self._heads, self._in_head
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as e:
            self._after_upgrade(data[e.args[0] :])
        except httptools.HttpParserError as e:
            self._malformed(e)
        if between and self._between and len(self.ready) == 1 and self.error is None:
            self._remember(data, self.ready[0])
        if self._in_head and self.error is None:
            if self._heads != heads or not in_head:
                # A head or a body ended here: what may have begun behind it is no more than this piece.
                self._head_size = 0
                return
            self._head_size += len(data)
            if self._head_size > limit:
                self._complain(431, f"the headers are larger than {limit} bytes", "headers_too_large")

    def _is_body(self, size: int) -> bool:
        """The next `size` bytes are within a body whose length was announced: no head can be among them."""
        length = self._headers.get(b"content-length")
        return not self._in_head and length is not None and length.isdigit() and self._size + size <= int(length)

    def _remember(self, data: bytes, request: Request) -> None:
        """`data` may have been all of this request."""
        if request.keep_alive and not request.http10 and self._known.worth_it():
            self._known.last = known_head(
                data, request.body, request.headers, request.method, request.path, request.query
            )

    def _after_upgrade(self, rest: bytes) -> None:
        """The parser takes what follows an offer to upgrade for another protocol; to us it is the request's body, or
        the next request."""
        while not self.upgraded and self.error is None:
            if self._without_upgrade is not None:
                rest, self._without_upgrade = self._without_upgrade + rest, None
                self._parser = httptools.HttpRequestParser(self)
            if not rest:
                return
            try:
                self._parser.feed_data(rest)
            except httptools.HttpParserUpgrade as e:
                rest = rest[e.args[0] :]
            except httptools.HttpParserError as e:
                self._malformed(e)
            else:
                return

    def _malformed(self, error: Exception) -> None:
        self._complain(400, f"the request is not HTTP/1.1: {_plain(error)}", "malformed_http")

    # ---- llhttp's callbacks

    def on_message_begin(self) -> None:
        self._between = False

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name in self._wanted:
            if name in self._headers and name in _ONCE:
                self._complain(400, f"the header {name.decode()} is there twice", "duplicate_header")
            self._headers[name] = value

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_size = 0
        self._heads += 1
        headers = self._headers
        length = headers.get(b"content-length")
        if len(headers) == 2 and length is not None and b"host" in headers and len(length) < 5 and length.isdigit():
            # The usual: a host, a length within every limit, nothing else that matters.
            return
        encoding = headers.get(b"transfer-encoding")
        if encoding is not None:
            if length is not None:
                self._complain(400, "both Content-Length and Transfer-Encoding are there", "ambiguous_length")
            elif encoding.strip().lower() != b"chunked":
                self._complain(400, "the only Transfer-Encoding that is understood is chunked", "unknown_encoding")
        elif length is not None and length.isdigit() and int(length) > self._limits.body_bytes:
            self._too_large()
        if b"host" not in headers and self._parser.get_http_version() == "1.1":
            self._complain(400, "the header host is missing", "missing_host")
        expect = headers.get(b"expect")
        if expect is not None:
            if expect.lower() == b"100-continue":
                self.continue_wanted = self.error is None
            else:
                self._complain(417, "the only Expect that is understood is 100-continue", "unknown_expect")

    def on_body(self, body: bytes) -> None:
        if self.error is None:
            self._pieces.append(body)
            self._size += len(body)
            if self._size > self._limits.body_bytes:
                self._too_large()
                self._pieces.clear()

    def on_message_complete(self) -> None:
        self._in_head = True
        self.continue_wanted = False
        if self.error is not None:
            return
        parser = self._parser
        if parser.should_upgrade():
            if parser.get_method() == b"CONNECT":
                self.upgraded = True
            elif b"transfer-encoding" in self._headers or self._headers.get(b"content-length", b"0") != b"0":
                self._without_upgrade = self._head_again(parser.should_keep_alive())
                self._headers = {}
                self._url = b""
                return
        pieces = self._pieces
        url = self._url
        query = b""
        if url.find(b"?") >= 0:
            url, _, query = url.partition(b"?")
        request = Request(
            parser.get_method(),
            url,
            self._headers,
            pieces[0] if len(pieces) == 1 else b"".join(pieces),
            parser.should_keep_alive() and not self.upgraded,
            parser.get_http_version() == "1.0",
            query,
        )
        self.ready.append(request)
        self._between = request.keep_alive
        self._url = b""
        self._headers = {}
        self._pieces = []
        self._size = 0

    def _head_again(self, keep_alive: bool) -> bytes:
        """The head of a request that offers to upgrade (Java's client does, to h2c), without the offer."""
        parser = self._parser
        lines = [b"%b %b HTTP/%b" % (parser.get_method(), self._url, parser.get_http_version().encode())]
        lines += [b"%b: %b" % header for header in self._headers.items()]
        lines.append(b"connection: keep-alive" if keep_alive else b"connection: close")
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def _too_large(self) -> None:
        self._complain(413, f"the body is larger than {self._limits.body_bytes} bytes", "body_too_large")

    def _complain(self, status: int, message: str, code: str) -> None:
        if self.error is None:
            self.error = Complaint(status, message, code)


def _plain(error: Exception) -> str:
    text = str(error).strip()
    return text[:1].lower() + text[1:] if text else "it cannot be parsed"
