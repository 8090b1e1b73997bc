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
_ON_THE_WAY = frozenset(
    {Reason.PROGRESSING, Reason.PULLING, Reason.WAITING_FOR_POD, Reason.STARTING, Reason.SCALED_TO_ZERO,
     Reason.SUSPENDED, Reason.FALLBACK_OFF, Reason.OLD_GENERATION}
)  # fmt: skip
"""Not yet, or as asked for: nobody need look."""


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
    """The news among conditions, each with whether it is bad: `Ready` for another reason, any other that turned.

    `Reconciling` is never news; of a first visit only `Ready` is; one reason is said once.
    """
    before = {c.type: c for c in old}
    out: dict[str, tuple[Condition, bool]] = {}
    for condition in new:
        was = before.get(condition.type)
        if condition.type == "Reconciling" or (was is None and condition.type != "Ready"):
            continue
        turned = was is None or was.status is not condition.status
        if turned or (condition.type == "Ready" and was is not None and was.reason != condition.reason):
            good = ConditionStatus.FALSE if condition.type == "Stalled" else ConditionStatus.TRUE
            bad = condition.status not in (good, ConditionStatus.UNKNOWN) and condition.reason not in _ON_THE_WAY
            out.setdefault(condition.reason, (condition, bad))
    return list(out.values())


def timestamp(unix: float) -> str:
    """RFC 3339 in UTC, whole seconds: `2026-11-22T12:00:00Z`."""
    return datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def unix(timestamp_text: str) -> float:
    """Unix seconds of a timestamp of the API server; 0 when it cannot be read."""
    try:
        return datetime.fromisoformat(timestamp_text.replace("Z", "+00:00")).timestamp()
    except ValueError:
        return 0.0
