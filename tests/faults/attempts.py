"""The arrivals of one request at the backends, joined to the attempts that the gateway made. Pure.

Two arrivals can be one attempt: a request sent again because a connection that had been used before closed without one
byte, and one sent again without the field that we added. Decided here: which arrivals belong together, and what each
attempt may have come to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.faults.faults import FAULTS, End, Fault
from tests.faults.values import Arrival
from tests.faults.world import HEDGE


@dataclass(frozen=True)
class Attempt:
    """`last` is the arrival that decided it."""

    last: Arrival
    arrivals: tuple[Arrival, ...]
    ends: frozenset[End]
    """What it may rightly have come to."""
    whys: frozenset[str]
    """Reasons that may rightly be given where it moved on or broke; empty for any."""
    verdict: str
    lost_redial: bool = False
    """It was to be sent again and never arrived: the backend had gone."""
    raced: bool = False
    """It ran beside another attempt of the same request."""

    @property
    def splits(self) -> tuple[frozenset[str], ...]:
        """Of its arrivals those that may have been attempts of their own, by the reasons that may be given for them: a
        reset that follows the first bytes, and a backend that goes down, may come before or after they were read."""
        return tuple(
            DIAL | frozenset(FAULTS[a.fault].whys)
            for a in self.arrivals[:-1]
            if a.reused and (FAULTS[a.fault].lossy or a.how == "killed")
        )

    @property
    def backend(self) -> str:
        return self.last.backend

    @property
    def fault(self) -> Fault:
        return FAULTS[self.last.fault]

    @property
    def sure(self) -> bool:
        """Its verdict is known, whatever the timing was."""
        return self.last.how != "killed" and not self.lost_redial and not self.raced


DIAL = frozenset(("Refused", "Reset", "Cut", "ConnectTimeout", "Unreachable", "EndpointGone"))
"""What a dial, or a connection just made, to a backend that goes down comes to."""


SOON = 3.0
"""Seconds within which what is sent again arrives."""
EARLY = 0.05
"""Seconds by which a client or a backend may see something earlier than it was, on a busy machine."""


def joined(arrivals: Sequence[Arrival], usage: bool, *, hedges: bool = False) -> list[Attempt]:
    """`usage`: the client asked for the usage frame itself. `arrivals` in order; with `hedges` another backend may have
    been asked before one was asked again."""
    found = []
    rest = list(arrivals)
    while rest:
        group = [rest.pop(0)]
        lost = False
        while True:
            last = group[-1]
            wanted_again = FAULTS[last.fault].end is End.AGAIN and last.asked_usage and not usage
            again = wanted_again or _sent_again(last)
            if not again:
                break
            next_ = _next(rest, group, hedges)
            if next_ is not None and (wanted_again or not next_.reused):
                rest.remove(next_)
                group.append(next_)
                continue
            lost = wanted_again or FAULTS[last.fault].silent_head
            break
        found.append(_attempt(tuple(group), usage, lost))
    return found


def _next(rest: Sequence[Arrival], group: Sequence[Arrival], hedges: bool) -> Arrival | None:
    """What may be the same attempt, sent again."""
    last = group[-1]
    if not hedges:
        return rest[0] if rest and rest[0].backend == last.backend else None
    too_early_for_two = group[0].at + HEDGE - EARLY
    for a in rest:
        if a.backend == last.backend:
            return a if a.at < last.done + SOON else None
        if last.done <= a.at < too_early_for_two:
            return None  # the gateway had moved on; whoever is asked after this is asked anew
    return None


def _sent_again(arrival: Arrival) -> bool:
    """It may have been: not one byte came back on a connection that had been used."""
    fault = FAULTS[arrival.fault]
    return arrival.reused and (fault.silent_head or arrival.how == "killed")


def _attempt(group: tuple[Arrival, ...], usage: bool, lost: bool) -> Attempt:
    last = group[-1]
    fault = FAULTS[last.fault]
    end, verdict, whys = fault.end, fault.verdict, frozenset(fault.whys)
    if end is End.AGAIN:
        if not last.asked_usage:
            end, verdict = End.WHOLE, "Success"
        elif usage:
            end, whys = End.ON, frozenset(("Unsupported",))
    ends = {end}
    if lost:
        ends, whys, verdict = {End.ON}, whys | DIAL, "Failure"
    elif last.how == "killed":
        ends |= {End.ON, End.BREAK} if last.stream else {End.ON}
        whys = frozenset()
    elif fault.lossy and end is End.BREAK:
        ends.add(End.ON)
    return Attempt(last, group, frozenset(ends), whys, verdict, lost)
