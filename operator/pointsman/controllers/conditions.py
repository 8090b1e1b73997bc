"""Conditions: how one turn of judging becomes `status.conditions`. Pure.

Invariants: every condition of a kind is there after the first visit; each carries the generation it was judged at;
`lastTransitionTime` changes only when the status does; an Event's worth of news is a flip, nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from pointsman.api.conditions import Condition, ConditionStatus, Reason

MESSAGE_LIMIT = 1024
GOOD_WHEN_FALSE = frozenset({"Reconciling", "Stalled"})


@dataclass(frozen=True)
class Verdict:
    """What is the case: True, False or None (unknown), why, and what to do next."""

    holds: bool | None
    reason: Reason
    message: str = ""


class Conditions:
    """Collects verdicts of one kind's conditions."""

    def __init__(self, old: Iterable[Condition], generation: int, now: float) -> None:
        """`now`: Unix seconds."""
        self._old = {c.type: c for c in old}
        self._generation = generation
        self._now = timestamp(now)
        self._new: dict[str, Condition] = {}

    def set(self, kind: StrEnum, verdict: Verdict) -> None:
        status = (
            ConditionStatus.UNKNOWN
            if verdict.holds is None
            else ConditionStatus.TRUE
            if verdict.holds
            else ConditionStatus.FALSE
        )
        old = self._old.get(kind.value)
        same = old is not None and old.status is status and old.last_transition_time
        self._new[kind.value] = Condition(
            type=kind.value,
            status=status,
            reason=verdict.reason.value,
            message=verdict.message[:MESSAGE_LIMIT],
            observed_generation=self._generation,
            last_transition_time=old.last_transition_time if same and old else self._now,
        )

    def result(self) -> tuple[Condition, ...]:
        return tuple(self._new.values())


def flips(old: Iterable[Condition], new: Iterable[Condition]) -> list[tuple[Condition, bool]]:
    """The conditions whose status or reason is another than before, each with whether it is bad news.

    `Reconciling` is no news; a condition's first verdict is none either while it is unknown.
    """
    before = {c.type: c for c in old}
    out = []
    for condition in new:
        was = before.get(condition.type)
        if condition.type == "Reconciling" or (was is None and condition.status is ConditionStatus.UNKNOWN):
            continue
        if was is None or (was.status, was.reason) != (condition.status, condition.reason):
            if was is None and condition.type in GOOD_WHEN_FALSE and condition.status is ConditionStatus.FALSE:
                continue
            good = ConditionStatus.FALSE if condition.type in GOOD_WHEN_FALSE else ConditionStatus.TRUE
            out.append((condition, condition.status is not good and condition.status is not ConditionStatus.UNKNOWN))
    return out


def timestamp(unix: float) -> str:
    """RFC 3339 in UTC, whole seconds: `2026-11-22T12:00:00Z`."""
    return datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def unix(timestamp_text: str) -> float:
    """Unix seconds of a timestamp of the API server; 0 when it cannot be read."""
    try:
        return datetime.fromisoformat(timestamp_text.replace("Z", "+00:00")).timestamp()
    except ValueError:
        return 0.0
