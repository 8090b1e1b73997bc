"""Passive health: what the real answers of one endpoint amount to.

Decided here: when failures are too many (failover.md §3), and when they are enough to prefer others. Not here: what
follows (`health.py`).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

FAILURES_IN_A_ROW: Final = 5
WINDOW_SECONDS: Final = 30
WINDOW_MIN_ANSWERS = 10
DISTINCT_REQUESTS = 3
POOR_IN_A_ROW = 2
POOR_MIN_ANSWERS = 4


@dataclass(slots=True)
class _Failed:
    at: float
    request: str
    by_answer: bool


class Score:
    """Successes counted by the second, failures kept one by one, within a window."""

    __slots__ = ("_failures", "_ok_count", "_ok_second", "_streak")

    def __init__(self) -> None:
        self._failures: deque[_Failed] = deque(maxlen=128)
        self._streak: deque[_Failed] = deque(maxlen=FAILURES_IN_A_ROW * 4)
        self._ok_second = [-1] * WINDOW_SECONDS
        self._ok_count = [0] * WINDOW_SECONDS

    @property
    def streak(self) -> int:
        """Failures since the last success."""
        return len(self._streak)

    def recent_streak(self, now: float) -> int:
        """The same while the last of them is within the window: who did not fail since deserves another try."""
        streak = self._streak
        return len(streak) if streak and now - streak[-1].at < WINDOW_SECONDS else 0

    def succeeded(self, now: float) -> None:
        second = int(now)
        slot = second % WINDOW_SECONDS
        if self._ok_second[slot] != second:
            self._ok_second[slot] = second
            self._ok_count[slot] = 0
        self._ok_count[slot] += 1
        if self._streak:
            self._streak.clear()

    def failed(self, request: str, by_answer: bool, now: float) -> None:
        failed = _Failed(now, request, by_answer)
        self._failures.append(failed)
        self._streak.append(failed)

    def withdraw(self, request: str) -> None:
        """The failures by answer of this request were its own fault."""
        for log in (self._failures, self._streak):
            kept = [f for f in log if not (f.by_answer and f.request == request)]
            log.clear()
            log.extend(kept)

    def forget(self) -> None:
        """A new beginning; successes count on."""
        self._streak.clear()
        self._failures.clear()

    def too_many(self, now: float) -> bool:
        """Five in a row, or half of at least ten within the window; from three requests at least."""
        if len(self._streak) >= FAILURES_IN_A_ROW and _distinct(self._streak) >= DISTINCT_REQUESTS:
            return True
        recent, answers = self._recent(now)
        return answers >= WINDOW_MIN_ANSWERS and 2 * len(recent) >= answers and _distinct(recent) >= DISTINCT_REQUESTS

    def poor(self, now: float) -> bool:
        """Two in a row, or a quarter of at least four within the window: not broken, but not well."""
        if len(self._streak) >= POOR_IN_A_ROW:
            return True
        recent, answers = self._recent(now)
        return answers >= POOR_MIN_ANSWERS and 4 * len(recent) >= answers

    def _recent(self, now: float) -> tuple[list[_Failed], int]:
        """The failures within the window, and how many answers there were in all."""
        recent = [f for f in self._failures if now - f.at < WINDOW_SECONDS]
        oldest = int(now) - WINDOW_SECONDS
        ok = sum(n for s, n in zip(self._ok_second, self._ok_count, strict=True) if s > oldest)
        return recent, len(recent) + ok


def _distinct(failures: deque[_Failed] | list[_Failed]) -> int:
    return len({f.request for f in failures})
