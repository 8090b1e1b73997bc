"""Events of a stream that are like the one before, but for their text. Pure.

An engine sends thousands of events that differ in a word. Once one was read and found to be plain text, another with
the same bytes before and after that text means the same: comparing costs a fraction of reading. Decided here: which
bytes count as such. Not here: what the first of them meant (`EventReader`).

Why this is safe: the text is one whole JSON string of the event, found in it once. Between its quotes anything without
a quote, a backslash or a control character, in good UTF-8, leaves the event the same JSON with another string.
"""

from __future__ import annotations

from typing import Final

_VAIN: Final = 8
"""Events that were learnt in a row and were like no other: then this stream has none such."""


class Alike:
    """What the last event looked like, when another of its kind may pass without being read."""

    __slots__ = ("_after", "_before", "_vain", "known")

    def __init__(self) -> None:
        self.known = False
        self._before = b""
        self._after = b""
        self._vain = 0

    def learn(self, frame: bytes, text: bytes) -> None:
        """`frame` was read; `text` is the JSON string in it that may be another, with its quotes, or empty."""
        self.known = False
        if self._vain >= _VAIN or len(text) < 3:
            return
        self._vain += 1
        at = frame.find(text)
        if at < 0 or frame.find(text, at + 1) >= 0:
            return
        self._before = frame[: at + 1]
        self._after = frame[at + len(text) - 1 :]
        self.known = True

    def forget(self) -> None:
        """Something else came: the next is read again."""
        self.known = False

    def length(self, data: bytes) -> int:
        """How many bytes of `data`, from the first on, are whole events like it; only while it is `known`."""
        before, after = self._before, self._after
        at = 0
        while data.startswith(before, at):
            begin = at + len(before)
            end = data.find(after, begin)
            if end <= begin or not _plain(data[begin:end]):
                break
            at = end + len(after)
        if at:
            self._vain = 0
        return at


def _plain(text: bytes) -> bool:
    """Can it stand in a JSON string as it is?"""
    if b'"' in text or b"\\" in text:
        return False
    try:
        return text.decode().isprintable()
    except UnicodeDecodeError:
        return False
