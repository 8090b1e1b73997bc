"""Who is asked next, after what was tried so far?

Decided here: failover.md rule 2, and which failures end a request. Not here: the order of candidates (`candidates.py`).

- At most two attempts per target while another target is left.
- The last attempt is kept for a backend that was not asked yet.
- A dial that never reached the backend costs none; `MAX_DIALS` in all.
- No endpoint is asked twice while another is left; after that once more, if its failure may pass.
- With fallback off, only such a dial may move on, to another endpoint of the first target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pointsman.domain.candidates import Barred, Candidate, Excluded, Ordering, Place
from pointsman.domain.failure import FREE, NEVER_SENT, RETRYABLE
from pointsman.domain.table import Endpoint, Route, Target
from pointsman.domain.verdict import Judgement, Verdict, Why

MAX_DIALS = 16
PER_TARGET = 2
PER_ENDPOINT = 2

_REFUSED = frozenset((Verdict.BUSY, Verdict.LOADING, Verdict.DENIED, Verdict.MODEL_MISSING, Verdict.UNFIT))
"""Answers that a backend gives before it begins."""
_TARGET_WIDE = frozenset((Verdict.UNFIT, Verdict.DENIED))
"""Another endpoint of the same target would say the same."""
_FINAL = frozenset((Verdict.SUCCESS, Verdict.CALLER, Verdict.CANCELLED))


@dataclass(frozen=True, slots=True)
class Tried:
    """One attempt that is over."""

    target: Target
    endpoint: Endpoint
    place: Place
    judged: Judgement
    ms: float

    @property
    def costs(self) -> bool:
        return self.judged.why not in FREE

    @property
    def untouched(self) -> bool:
        """The backend has provably not begun with the request."""
        judged = self.judged
        return judged.why in NEVER_SENT or (judged.verdict in _REFUSED and not judged.begun)


def next_attempt(
    route: Route, ordering: Ordering, tried: Sequence[Tried], *, fallback: bool, once: bool = False, acts: bool = False
) -> tuple[Candidate, Endpoint] | None:
    """The next candidate and the endpoint of it to ask; None when the request ends here. `once`, `acts`: see below."""
    if not tried:
        return _first(ordering.candidates, tried)
    spent = [t for t in tried if t.costs]
    left = attempts_left(route, tried, fallback=fallback, once=once, acts=acts)
    if left == 0:
        return None
    closed = {t.target.index for t in tried if t.judged.verdict in _TARGET_WIDE}
    # One attempt goes to the least bad; whoever has come back meanwhile may still be asked.
    worst = any(t.place is Place.LEAST_BAD for t in spent)
    candidates = [c for c in ordering.candidates if not (worst and c.place is Place.LEAST_BAD)]
    open_ = [c for c in candidates if c.target.index not in closed]
    fresh = [c for c in open_ if _untried(c, tried)]
    counts: dict[int, int] = {}
    for t in spent:
        counts[t.target.index] = counts.get(t.target.index, 0) + 1
    spared = [c for c in fresh if counts.get(c.target.index, 0) < PER_TARGET] or fresh
    if left == 1:
        asked = {t.target.backend.name for t in spent}
        spared = [c for c in spared if c.target.backend.name not in asked] or spared
    return _first(spared, tried) or _again(open_, tried)


def attempts_left(
    route: Route, tried: Sequence[Tried], *, fallback: bool, once: bool = False, acts: bool = False
) -> int:
    """How many attempts this request still has; 0 when it ends here whoever could answer. `once`: its body is not kept,
    so that whoever has received it is the last. `acts`: who has begun with it may have done what it asks, so that it
    may go on only to the next after one who provably has not."""
    if not tried:
        return route.max_attempts
    last = tried[-1]
    spent = [t for t in tried if t.costs]
    if last.judged.verdict in _FINAL:
        return 0
    if len(tried) >= MAX_DIALS + route.max_attempts or len(tried) - len(spent) >= MAX_DIALS:
        return 0
    if not (fallback and route.fallback) and last.costs:
        return 0
    if once and spent:
        return 0
    if acts and not all(t.untouched for t in tried):
        return 0
    return max(0, route.max_attempts - len(spent))


def _untried(candidate: Candidate, tried: Sequence[Tried]) -> list[Endpoint]:
    """Endpoints of the candidate that were not asked for this target's model."""
    asked = {t.endpoint.key for t in tried if t.target.index == candidate.target.index}
    # A dial that failed fails for every model of that endpoint.
    dead = {t.endpoint.key for t in tried if t.judged.why in FREE}
    return [e for e in candidate.endpoints if e.key not in asked and e.key not in dead]


def _first(candidates: Sequence[Candidate], tried: Sequence[Tried]) -> tuple[Candidate, Endpoint] | None:
    for candidate in candidates:
        endpoints = _untried(candidate, tried)
        if endpoints:
            return candidate, endpoints[0]
    return None


def _again(candidates: Sequence[Candidate], tried: Sequence[Tried]) -> tuple[Candidate, Endpoint] | None:
    for candidate in candidates:
        for endpoint in candidate.endpoints:
            here = [t for t in tried if t.endpoint.key == endpoint.key and t.target.index == candidate.target.index]
            if here and len(here) < PER_ENDPOINT and here[-1].judged.why in RETRYABLE:
                return candidate, endpoint
    return None


def left_behind(ordering: Ordering, tried: Sequence[Tried], target: Target) -> tuple[str, str] | None:
    """Is asking `target` next a fallback? Then the backend that was left for it, and why: the reason of the failed
    attempt, or of the exclusion when a target of an earlier rank was passed over from the start. Choosing among equals
    is no fallback, nor is passing over who cannot take such a request."""
    if tried:
        last = tried[-1]
        return None if last.target is target else (last.target.backend.name, last.judged.why.value)
    passed = [e for e in ordering.excluded if e.target.rank < target.rank and e.reason not in _UNFIT]
    if not passed:
        return None
    first = min(passed, key=lambda e: (e.target.rank, e.target.index))
    return first.backend, first.reason.value


@dataclass(frozen=True)
class Surrender:
    """What the client gets when nobody answered. `retry_after` in seconds."""

    status: int
    code: str
    message: str
    retry_after: float | None = None
    retry_useless: bool = False


_BUSY = (Barred.SATURATED, Barred.AT_LIMIT)
_UNFIT = (Barred.UNFIT, Barred.TOO_LONG, Barred.UNKNOWN_OPERATION, Barred.ELSEWHERE)
_NEVER_SERVED = frozenset((Verdict.LOADING, Verdict.DENIED, Verdict.MODEL_MISSING))


def surrender(
    model: str, tried: Sequence[Tried], excluded: Sequence[Excluded], now: float, *, late: bool = False
) -> Surrender:
    """failover.md rule 3: the status, and one line per attempt. Never a secret, a URL or an upstream's own words.
    `late`: the route's total time is over."""
    lines = [f"- {t.target.backend.name} ({t.target.model}): {t.judged.verdict.value}, {t.judged.why.value}: "
             f"{t.judged.sentence}, after {t.ms:.0f} ms" for t in tried]  # fmt: skip
    shown = [e for e in excluded if e.reason is not Barred.FALLBACK_OFF]
    lines += [f"- {e.backend} ({e.target.model}): not asked, {e.reason.value}: {e.told(now)}" for e in shown]
    verdicts = {t.judged.verdict for t in tried}
    busy_until = [e.until - now for e in shown if e.reason is Barred.SATURATED and e.until is not None]
    able = [e for e in shown if e.reason not in _UNFIT]
    saturated = bool(able) and all(e.reason in _BUSY for e in able)
    all_busy = verdicts == {Verdict.BUSY} if tried else saturated
    if all_busy:
        waits = [t.judged.retry_after for t in tried if t.judged.retry_after is not None] + busy_until
        status, code, head = 429, "all_backends_busy", "every backend is busy"
        retry = max(1.0, min(waits, default=1.0))
        return Surrender(status, code, _message(model, head, lines), retry)
    if shown and not able and not tried:
        head = "nobody can take such a request"
        return Surrender(400, "unsupported_request", _message(model, head, lines), None, True)
    if late or any(t.judged.why is Why.TOTAL_TIMEOUT for t in tried):
        return Surrender(504, "timeout", _message(model, "no answer within the route's total time", lines))
    if verdicts <= _NEVER_SERVED:
        useless = bool(verdicts) and Verdict.LOADING not in verdicts
        waits = [t.judged.retry_after for t in tried if t.judged.retry_after is not None]
        retry_after = None if useless else max(1.0, min(waits, default=5.0))
        return Surrender(503, "no_backend", _message(model, "no backend can serve it now", lines), retry_after, useless)
    if Verdict.STALLED in verdicts:
        return Surrender(504, "backend_timeout", _message(model, "no backend answered in time", lines))
    return Surrender(502, "backend_failure", _message(model, "no backend gave an answer", lines))


def _message(model: str, head: str, lines: Sequence[str]) -> str:
    return "\n".join([f"model {model}: {head}", *lines])


def all_empty(tried: Sequence[Tried]) -> bool:
    """Every attempt ended empty: the model may mean it."""
    return bool(tried) and all(t.judged.why is Why.EMPTY for t in tried)


def blameless(tried: Sequence[Tried]) -> list[Endpoint]:
    """Endpoints whose failures by answer are the request's own fault: another endpoint gave it the same verdict."""
    groups: dict[Why, dict[str, Endpoint]] = {}
    for t in tried:
        if t.judged.by_answer:
            groups.setdefault(t.judged.why, {})[t.endpoint.key] = t.endpoint
    return [e for group in groups.values() if len(group) > 1 for e in group.values()]
