"""A backend's HTTP/1.1 answers read from bytes, without a socket.

Decided here: where an answer ends, and whether its connection may carry another. Not here: what it is worth
(`relay/answers.py`). Source: RFC 9112; parsing is llhttp's. No callback raises, for llhttp's binding would hide it.
"""

from __future__ import annotations

import httptools

from pointsman.domain.verdict import Why
from pointsman.gateway.limits import Limits

_INTERIM_MAX = 16
_WANTED = frozenset((b"content-type", b"content-length", b"content-encoding", b"transfer-encoding", b"retry-after"))


class AnswerReader:
    """Reads the answers of one connection to a backend, one after another."""

    __slots__ = (
        "_begun", "_head_size", "_interim", "_interims", "_limit", "_parser", "_seen", "complete", "fault",
        "head_done", "headers", "keep_alive", "pieces", "residue", "status", "touched",
    )  # fmt: skip

    def __init__(self, limits: Limits) -> None:
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

    def feed(self, data: bytes) -> None:
        self.touched = True
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
