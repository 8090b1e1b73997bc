"""How fast an endpoint has answered for one model lately: two smoothed figures.

Decided here: what is smoothed, how much, and when a figure is too old, or too new, to be believed. Streams and whole
answers are never mixed: the one is a time to the first token, the other a time to the last.
"""

from __future__ import annotations

SMOOTHING = 0.2
"""The part of a new figure in the smoothed one."""
FRESH_SECONDS = 30.0
"""After so long without an answer nothing is known: a slow one gets another chance."""


class _Smoothed:
    __slots__ = ("at", "count", "ms")

    def __init__(self) -> None:
        self.ms = 0.0
        self.at = float("-inf")
        self.count = 0

    def add(self, ms: float, now: float) -> None:
        if now - self.at >= FRESH_SECONDS:
            self.count = 0
        self.at = now
        self.count += 1
        # The first answer may have had to wait for the model to be loaded.
        if self.count == 1 or (self.count == 2 and ms < self.ms):
            self.ms = ms
        else:
            self.ms += SMOOTHING * (ms - self.ms)


class Pace:
    """Mutable, reads no clock. Milliseconds."""

    __slots__ = ("_first", "_whole")

    def __init__(self) -> None:
        self._first = _Smoothed()
        self._whole = _Smoothed()

    def answered(self, stream: bool, ms: float, now: float) -> None:
        (self._first if stream else self._whole).add(ms, now)

    def slow(self, ms: float, now: float) -> None:
        """A stream has not begun for so long: it will not have been faster."""
        first = self._first
        if ms > first.ms or now - first.at >= FRESH_SECONDS:
            first.add(ms, now)

    def of(self, stream: bool, now: float, least: int) -> float | None:
        """The smoothed figure; None when there is none that is fresh and of `least` answers."""
        smoothed = self._first if stream else self._whole
        return smoothed.ms if smoothed.count >= least and now - smoothed.at < FRESH_SECONDS else None
