"""The gateway's own figures and its changes of health, held against what happened. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from tests.faults.evidence import HAZE, most_at_once
from tests.faults.model import Model
from tests.faults.world import CHANGING, DEAD, LIMITED, PROBE, TOTAL

STALLS = ("FirstTokenTimeout", "AnswerTimeout", "IdleTimeout")
WINDOW = 30.0
"""Seconds of failures that count."""
LATE = 0.3
"""Seconds for which a backend may be at work after the gateway has what it wanted."""
RECOVERY = PROBE * 1.1 * 8 + 5
"""Seconds within which a backend that works again must be in Probation: eight good probes after several relapses."""


def check_attempts(model: Model, counted: Mapping[tuple[str, str], int]) -> list[str]:
    """`counted` is the gateway's `pointsman_attempts_total` by (backend, verdict)."""
    sure: Counter[tuple[str, str]] = Counter()
    unsure: Counter[str] = Counter()
    for request, attempts in model.attempts.items():
        asked = model._asked[request]
        left = asked.left
        doubtful = model.paused(asked.at, asked.done)
        for n, attempt in enumerate(attempts):
            unsure[attempt.backend] += len(attempt.splits)
            if attempt.sure and not doubtful and not (left and n == len(attempts) - 1):
                sure[attempt.backend, attempt.verdict] += 1
            else:
                unsure[attempt.backend] += 1
    problems = []
    unseen = sum(model.verdict.unseen.values())
    verdicts = {v for _, v in (*sure, *counted)}
    for backend in {b for b, _ in (*sure, *counted)} - set(DEAD):
        for verdict in verdicts - {"Failure", "Cancelled"}:
            least, got = sure[backend, verdict], counted.get((backend, verdict), 0)
            if not least <= got <= least + unsure[backend]:
                most = least + unsure[backend]
                problems.append(f"{backend}: {got} attempts counted as {verdict}, not {least} to {most}")
    failures = sum(n for (_, v), n in counted.items() if v == "Failure")
    least = sum(n for (_, v), n in sure.items() if v == "Failure") + unseen
    most = least + sum(unsure.values()) + sum(1 for a in model._asked.values() if a.left)
    if not least <= failures <= most:
        problems.append(f"{failures} attempts counted as Failure, not {least} to {most}")
    return problems


def check_limits(model: Model) -> list[str]:
    """No backend with a limit was asked more at once. What the gateway broke off, a backend may notice late."""
    problems = []
    for backend, capacity in LIMITED.items():
        spans = []
        for request, attempts in model.attempts.items():
            asked = model._asked[request]
            if asked.left or model.paused(asked.at, asked.done):
                continue
            for attempt in attempts:
                if attempt.backend != backend or attempt.raced:
                    continue
                spans += [(x.at, x.done - LATE) for x in attempt.arrivals if x.how == "done" and x.done - x.at > LATE]
        most = most_at_once(spans)
        if most > capacity.in_flight:
            problems.append(f"{backend} was asked {most} at once; its limit is {capacity.in_flight}")
    return problems


def check_health(model: Model) -> list[str]:
    """Nobody is taken out without a cause, and everybody is let back in in time."""
    failed: dict[str, list[tuple[float, str]]] = {}
    stalled: dict[str, list[float]] = {}
    for request, attempts in model.attempts.items():
        for a in attempts:
            if a.verdict == "Failure" or not a.sure:
                failed.setdefault(a.backend, []).append((a.last.done, request))
            if a.verdict == "Stalled":
                stalled.setdefault(a.backend, []).append(a.last.at)
    problems = []
    for backend, changes in model.evidence.changes().items():
        if backend in DEAD or (model._reloads and backend in CHANGING):
            continue
        for n, change in enumerate(changes):
            if change.new != "Unhealthy" or model.paused(change.at - WINDOW / 3, change.at + RECOVERY):
                continue
            if change.reason in STALLS:
                right = any(0 < change.at - at < TOTAL for at in stalled.get(backend, ()))
            elif change.reason in ("Refused", "ProbeFailed", "ProbeTimeout", "Reset"):
                right = True if change.old == "Probation" else model.evidence.down(backend, change.at, change.at)
                right = right or len({r for at, r in failed.get(backend, ()) if 0 < change.at - at + HAZE < WINDOW}) > 2
            else:
                recent = {r for at, r in failed.get(backend, ()) if -HAZE < change.at - at < WINDOW}
                right = len(recent) >= (1 if change.old == "Probation" else 3)
            if not right:
                problems.append(f"{backend} was taken out for {change.reason} without a cause")
            after = next((c.at for c in changes[n + 1 :]), None)
            down = max((d.until for d in model.evidence.downs(backend) if d.at <= (after or d.at)), default=0.0)
            if after is not None and after - max(change.at, down if down < after else 0.0) > RECOVERY:
                problems.append(f"{backend} was let back in only after {after - change.at:.1f} s")
    return problems
