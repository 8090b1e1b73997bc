"""What came of a run: is everybody accounted for on both sides, and did the number flap? Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from tests.bursts.ledger import Ledger
from tests.bursts.run import Outcome, Pace
from tests.bursts.trace import Request
from tests.bursts.watching import Change
from tests.demo.load import Seen

SEEN_LATE = 2.0
"""Seconds by which a watch may tell later of one change than of another."""
OPERATOR = "pointsman"
"""Its field manager."""
STILL_COMING = 1.0
"""Seconds after which no gateway asks a pod any more that goes; what had been sent before may arrive until then."""


def findings(outcome: Outcome) -> list[str]:
    """Each broken promise as a sentence."""
    found = [why for request, seen in outcome.seen if (why := _unanswered(request, seen, outcome.ledger))]
    ours = sorted(r.name for r, _ in outcome.seen)
    found += [f"{name}: begun twice" for name in ours if len(outcome.ledger.of.get(name, ())) > 1]
    found += _flaps(outcome.changes, outcome.pace)
    if outcome.watched.writers != {OPERATOR}:
        found.append(f"the number was written by {sorted(outcome.watched.writers)}")
    if outcome.watched.unseen:
        found.append(f"{outcome.watched.unseen} changes of the Deployment that are none of its number")
    for going in goings(outcome):
        if going.late:
            found.append(f"{going.pod}: asked {going.late} times after it was told to go")
    return found


def _unanswered(request: Request, seen: Seen, ledger: Ledger) -> str | None:
    if seen.error:
        return f"{request.name}: {seen.error}"
    whole = " ".join([request.name, *(str(n) for n in range(1, request.words))])
    if seen.text != whole:
        return f"{request.name}: {len(seen.text)} of {len(whole)} characters arrived"
    if not any(s.ended is not None and not s.cut for s in ledger.of.get(request.name, ())):
        return f"{request.name}: its client has an answer that no pod gave"
    return None


def _flaps(changes: list[Change], pace: Pace) -> Iterator[str]:
    """A number that was raised is kept for a window; one that was lowered is not wanted back within a window."""
    for one, other in itertools.pairwise(changes):
        up = one.after > one.before
        if up == (other.after > other.before):
            continue
        least = pace.up if not up else pace.down if other.after else pace.idle
        if other.at - one.at < least - SEEN_LATE:
            yield f"it flapped: {one.before} → {one.after} → {other.after} within {other.at - one.at:.0f} s"


def shortest(changes: list[Change], *, up_first: bool) -> float | None:
    """Seconds of the quickest reversal."""
    return min(
        (
            b.at - a.at
            for a, b in itertools.pairwise(changes)
            if (a.after > a.before) == up_first and (b.after > b.before) != up_first
        ),
        default=None,
    )


@dataclass(frozen=True)
class Going:
    """A pod that was told to go while others stayed, or with all of them."""

    at: float
    pod: str
    open: int
    """Answers that it had under way."""
    late: int
    """Answers that it began after that."""
    busier: bool
    """One that stayed had less to do."""


def goings(outcome: Outcome) -> list[Going]:
    """Every pod that went, in order."""
    out = []
    pods = outcome.watched.pods
    for pod, told in pods.items():
        if told is None:
            continue
        stayed = [p for p, at in pods.items() if at is None or at > told + SEEN_LATE]
        there = [p for p in stayed if any(s.pod == p and s.began < told for v in outcome.ledger.of.values() for s in v)]
        has = outcome.ledger.open_at(pod, told)
        busier = any(outcome.ledger.open_at(p, told) < has for p in there)
        out.append(Going(told, pod, has, outcome.ledger.begun_after(pod, told + STILL_COMING), busier))
    return sorted(out, key=lambda g: g.at)


def wakes(outcome: Outcome) -> list[float]:
    """Seconds that the first request of each time without a pod waited for its first word, or its whole answer less
    the time that its words take."""
    out = []
    none = [(c.at, next((d.at for d in outcome.changes if d.at > c.at), None)) for c in outcome.changes
            if not c.after]  # fmt: skip
    first = outcome.changes[0]
    for since, until in [(outcome.began - 1, first.at), *none]:
        if until is None:
            continue
        # The change follows the request that caused it.
        asked = [(r, s) for r, s in outcome.seen if since < s.started <= until]
        if asked:
            request, seen = min(asked, key=lambda pair: pair[1].started)
            out.append((seen.first_content or seen.ended - request.seconds) - seen.started)
    return out
