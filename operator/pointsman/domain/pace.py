"""How fast an endpoint has answered for one model lately: two smoothed figures.

Decided here: what is smoothed, how much, and when a figure is too old to be believed. Streams and whole answers are
never mixed: the one is a time to the first token, the other a time to the last.
"""

from __future__ import annotations

SMOOTHING = 0.2
"""The part of a new figure in the smoothed one."""
FRESH_SECONDS = 30.0
"""After so long without an answer nothing is known: a slow one gets another chance."""


class Pace:
    """Mutable, reads no clock. Milliseconds."""

    __slots__ = ("_first_at", "_first_ms", "_whole_at", "_whole_ms")

    def __init__(self) -> None:
        self._first_ms = self._whole_ms = 0.0
        self._first_at = self._whole_at = float("-inf")

    def answered(self, stream: bool, ms: float, now: float) -> None:
        if stream:
            fresh = now - self._first_at < FRESH_SECONDS
            self._first_ms = self._first_ms + SMOOTHING * (ms - self._first_ms) if fresh else ms
            self._first_at = now
        else:
            fresh = now - self._whole_at < FRESH_SECONDS
            self._whole_ms = self._whole_ms + SMOOTHING * (ms - self._whole_ms) if fresh else ms
            self._whole_at = now

    def slow(self, ms: float, now: float) -> None:
        """A stream has not begun for so long: it will not have been faster."""
        if now - self._first_at >= FRESH_SECONDS or ms > self._first_ms:
            self.answered(True, ms, now)

    def of(self, stream: bool, now: float) -> float | None:
        """The smoothed figure; None when there is none that is fresh."""
        if stream:
            return self._first_ms if now - self._first_at < FRESH_SECONDS else None
        return self._whole_ms if now - self._whole_at < FRESH_SECONDS else None
