"""A backend's HTTP/1.1 answers read from bytes, without a socket.

Decided here: where an answer ends, and whether its connection may carry another. Not here: what it is worth
(`relay/answers.py`). Source: RFC 9112; parsing is llhttp's. No callback raises, for llhttp's binding would hide it.
"""

from __future__ import annotations

from typing import cast

import httptools

from pointsman.domain.verdict import Why
from pointsman.gateway.limits import Limits
from pointsman.gateway.upstream.known_head import KnownHeads, known_head

_INTERIM_MAX = 16
_WANTED = frozenset((b"content-type", b"content-length", b"content-encoding", b"transfer-encoding", b"retry-after"))


class AnswerReader:
    """Reads the answers of one connection to a backend, one after another."""

    __slots__ = (
        "_head_size", "_interim", "_interims", "_known", "_limit", "_parser", "complete", "fault",
        "head_done", "headers", "keep_alive", "pieces", "residue", "status", "touched",
    )  # fmt: skip

    def __init__(self, limits: Limits, known: KnownHeads | None = None) -> None:
        """`known`: the heads of the same backend's other connections."""
        self._known = known or KnownHeads()
        self._parser = httptools.HttpResponseParser(self)
        self._limit = limits.upstream_head_bytes
        self.fault: Why | None = None
        """What was wrong; the connection is of no more use."""
        self.residue = False
        """Something followed the answer that nobody asked for: nor is it then."""
        self._interim = False
        self.reset()

    def reset(self) -> None:
        """For the next answer, after a whole one."""
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        """Those that matter to us, lower case."""
        self.head_done = False
        self.pieces: list[bytes] = []
        """Body that was not taken yet."""
        self.complete = False
        self.keep_alive = False
        self.touched = False
        """At least one byte came."""
        self._head_size = 0
        self._interims = 0

    def close(self) -> None:
        """Nothing more comes. Parser and reader know each other: without this only the garbage collector, which looks
        seldom, would end them."""
        self._parser = cast(httptools.HttpResponseParser, None)

    def feed(self, data: bytes) -> None:
        first = not self.touched
        self.touched = True
        if first:
            known = self._known.last
            if known is not None:
                body = known.body(data)
                if body is not None:
                    self.status = 200
                    self.headers = known.headers
                    self.pieces.append(body)
                    self.head_done = self.complete = self.keep_alive = True
                    return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.fault = Why.BROKEN_HTTP
        except httptools.HttpParserError:
            # After a whole answer it is rubbish that follows: the answer counts, the connection does not.
            if self.complete:
                self.residue = True
            else:
                self.fault = Why.BROKEN_HTTP
        if not self.head_done:
            self._head_size += len(data)
            if self._head_size > self._limit:
                self.fault = Why.TOO_LARGE
        elif first and self.complete and self.status == 200:
            self._remember(data)

    def _remember(self, data: bytes) -> None:
        """`data` may have been all of this answer."""
        alone = self.keep_alive and not self.residue and not self._interims and len(self.pieces) == 1
        if alone and self._known.worth_it():
            self._known.last = known_head(data, self.pieces[0], self.headers)

    def eof(self) -> bool:
        """The backend closed the connection: True when that is how its answer ends."""
        if self.complete:
            return True
        if not self.head_done or b"content-length" in self.headers or b"transfer-encoding" in self.headers:
            return False
        self.complete = True
        self.keep_alive = False
        return True

    # ---- llhttp's callbacks

    def on_message_begin(self) -> None:
        if self.complete:
            self.residue = True

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name in _WANTED and not self.complete:
            self.headers[name] = value

    def on_headers_complete(self) -> None:
        if self.complete:
            return
        status = self._parser.get_status_code()
        if status < 200:
            self._interim = True
            self._interims += 1
            if self._interims > _INTERIM_MAX:
                self.fault = Why.BROKEN_HTTP
            return
        self.status = status
        self.head_done = True

    def on_body(self, body: bytes) -> None:
        if not self.complete:
            self.pieces.append(body)

    def on_message_complete(self) -> None:
        if self._interim:
            self._interim = False
            self.headers = {}
            return
        if not self.complete:
            self.complete = True
            self.keep_alive = self._parser.should_keep_alive()
