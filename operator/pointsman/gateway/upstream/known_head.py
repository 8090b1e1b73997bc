"""The head of an HTTP message that was read before: the same bytes again need not be parsed again.

Programs send the same head with every message of a connection but for the figure of Content-Length, and a backend the
same for a second. What a parser makes of a head follows from its bytes alone while the parser stands between two
messages: so a head that llhttp has taken as well-formed is compared (0.2 µs), not parsed (1.5 to 4 µs, for each header
is a call into Python). Decided here: when two heads are the same. Not here: what a head means.

Only heads whose body has a Content-Length are known, and only messages that are there as a whole, with nothing behind
them, are found. Everything else goes through the parser as ever.
"""

from __future__ import annotations

from typing import Final

_LENGTH: Final = b"\r\ncontent-length:"
_END: Final = b"\r\n\r\n"
_MOST_DIGITS: Final = 8
_IN_VAIN: Final = 16
"""Where heads never come again, only every so manieth is remembered."""


class KnownHead:
    """A head, cut at its Content-Length's figure, and what the parser made of it."""

    __slots__ = ("_end", "_head", "_size", "_start", "headers", "method", "path", "query", "used")

    def __init__(
        self, head: bytes, start: int, end: int, headers: dict[bytes, bytes], method: bytes, path: bytes, query: bytes
    ) -> None:
        self._head = head
        self._start = start
        self._end = end
        """Where the figure stands."""
        self._size = len(head) + int(head[start:end])
        """Of the last message, body included."""
        self.headers = headers
        """Those that matter to whoever asks, lower case. Shared: not to be changed."""
        self.method = method
        self.path = path
        self.query = query
        self.used = False

    def body(self, data: bytes) -> bytes | None:
        """The body of a message with this head that is all of `data`; None when it is another, or not all there.
        `headers` are its headers then."""
        head = self._head
        if len(data) == self._size and data.startswith(head):
            self.used = True
            return data[len(head) :]
        start = self._start
        if not data.startswith(head[:start]):
            return None
        end = data.find(b"\r", start, start + _MOST_DIGITS + 1)
        digits = data[start:end]
        after = head[self._end :]
        if end < 0 or not digits.isdigit() or not data.startswith(after, end):
            return None
        body_at = end + len(after)
        if len(data) != body_at + int(digits):
            return None
        self._head = data[:body_at]
        self._end = end
        self._size = len(data)
        self.headers = {**self.headers, b"content-length": digits}
        self.used = True
        return data[body_at:]


def known_head(
    data: bytes,
    body: bytes,
    headers: dict[bytes, bytes],
    method: bytes = b"",
    path: bytes = b"",
    query: bytes = b"",
) -> KnownHead | None:
    """The head of the message that `data` is and whose body is `body`, as the parser took it; None when it cannot be
    told by its bytes where its length stands."""
    head = data[: len(data) - len(body)]
    if data.find(_END) + len(_END) != len(head) or b"transfer-encoding" in headers:
        return None
    lower = head.lower()
    start = lower.find(_LENGTH)
    if start < 0 or lower.find(_LENGTH, start + 1) >= 0:
        return None
    start += len(_LENGTH)
    while head.startswith(b" ", start):
        start += 1
    end = head.find(b"\r", start)
    digits = head[start:end]
    if not digits.isdigit() or len(digits) > _MOST_DIGITS or int(digits) != len(body):
        return None
    return KnownHead(head, start, end, headers, method, path, query)


class KnownHeads:
    """The last head of some messages that may be alike."""

    __slots__ = ("_in_vain", "last")

    def __init__(self) -> None:
        self.last: KnownHead | None = None
        self._in_vain = 0

    def worth_it(self) -> bool:
        """Should the head of the message that was just parsed be remembered?"""
        last = self.last
        if last is None or last.used:
            self._in_vain = 0
            return True
        self._in_vain += 1
        return self._in_vain % _IN_VAIN == 0

    def forget(self) -> None:
        """Other headers matter from now on."""
        self.last = None
