"""How does an endpoint get its load, back or for the first time? One trial, then doubling, not the whole load at once.

Decided here: how many requests each step admits, when the last step is over, and how much more it takes to come back
after a relapse. Not here: when an endpoint is out, and when it may begin (`health.py`).
"""

from __future__ import annotations

RAMP_LAST = 8
"""Requests at once that the last step of a ramp admits; the first admits one."""
RELAPSES_COUNTED = 3
"""Each relapse out of Probation doubles the good probes that are wanted, this many times at most."""


class Ramp:
    """Of one endpoint. Mutable; reads no clock."""

    __slots__ = ("_relapses", "_step", "_successes")

    def __init__(self) -> None:
        self._step = 1
        self._successes = 0
        self._relapses = 0

    def begin(self) -> None:
        """At the foot again."""
        self._step, self._successes = 1, 0

    def admits(self, trials: int) -> bool:
        """May another request go, while so many are under way?"""
        return trials < self._step

    def succeeded(self) -> bool:
        """A request was answered: True when the whole load may come."""
        self._successes += 1
        if self._successes < self._step:
            return False
        self._step, self._successes = self._step * 2, 0
        if self._step <= RAMP_LAST:
            return False
        self._relapses = 0
        return True

    def relapsed(self) -> None:
        self._relapses += 1

    def probes_wanted(self, usually: int) -> int:
        """Good probes in a row before it begins."""
        return usually << min(self._relapses, RELAPSES_COUNTED)
