"""Whose turn is it to write what may wait? All of one sort together write at a bounded rate, each in the order it came.
Pure: the clock is passed in, in seconds."""

from __future__ import annotations

from typing import Final

_MOST: Final = 10_000
"""Turns that are kept for those who never come back: deleted objects."""


class Turns:
    """Each key that must wait gets a moment of its own: nobody comes back in vain."""

    def __init__(self, spacing: float) -> None:
        """`spacing`: seconds between two turns."""
        self._spacing = spacing
        self._next = float("-inf")
        self._given: dict[str, float] = {}

    def wait(self, key: str, now: float) -> float:
        """Seconds until it is the turn of `key`; 0: it is now, and is used up by this."""
        at = self._given.get(key)
        if at is None:
            if len(self._given) >= _MOST:
                self._given.clear()
            at = self._given[key] = max(now, self._next)
            self._next = at + self._spacing
        if at > now:
            return at - now
        del self._given[key]
        return 0.0

    def forget(self, key: str) -> None:
        """It has been written for another reason: its turn is given up."""
        self._given.pop(key, None)
