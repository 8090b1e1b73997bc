"""Attempts of one request that ran beside each other, where the route asks another target beside a slow one. Pure.

Of those the first to have content wins, and the others are broken off whatever they would have come to: they may
rightly have been left, and nothing is known for certain of how far they got.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tests.faults.attempts import EARLY, Attempt
from tests.faults.faults import End
from tests.faults.values import Asked
from tests.faults.world import HEDGE

BROKEN_OFF = frozenset(("SlowFirstToken", "Outrun"))
LAG = 1.0
"""Seconds that a backend may need to see a request on a new connection. One that was sent on an open connection
overtakes it then: in which order the two were sent cannot be told."""


def may_race(asked: Asked) -> bool:
    """It took long enough for another target to be asked beside the first."""
    return asked.stream and asked.done - asked.at >= HEDGE - EARLY


def raced(attempts: Sequence[Attempt], asked: Asked) -> list[Attempt]:
    """The same attempts, of which those that may have run beside another say so."""
    found = list(attempts)
    if not may_race(asked):
        return found
    for n, second in enumerate(attempts):
        for m, first in enumerate(attempts[:n]):
            if first.backend != second.backend and second.arrivals[0].at < first.last.done + LAG:
                found[m], found[n] = _racing(found[m]), _racing(found[n])
    return found


def _racing(attempt: Attempt) -> Attempt:
    whys = attempt.whys | BROKEN_OFF if attempt.whys else attempt.whys
    return replace(attempt, ends=attempt.ends | {End.ON}, whys=whys, raced=True)
