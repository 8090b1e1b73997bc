"""Is there something better to wait for than the next candidate?

Decided here: for what a request waits, and for what it does not. Not here: how long and behind whom
(`gateway/relay/waiting_room.py`, `gateway/relay/hold.py`).

- A free slot at any candidate of a priority comes first. When all that could answer there are at their limit, a request
  waits for a slot, so long in all for each priority; then it moves on to the next.
- With `whileCold: Hold` a request waits for a target that is not ready yet (no pod, loading, its model being pulled),
  rather than go to a lower priority.
- A backend without a pod that would have been asked is wanted: the report says so, and the operator may start one.
- Nobody waits for a target that was already asked, nor when the request has no attempt left.
- Endpoints in their ramp, the least bad ones, and one that failed this request are worse than any that is only full.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from pointsman.api.engine import Engine
from pointsman.domain.attempts import Tried, attempts_left
from pointsman.domain.candidates import Barred, Candidate, Excluded, Ordering, Place
from pointsman.domain.table import Backend, BrokenTarget, Endpoint, Route
from pointsman.domain.verdict import Verdict


class Awaited(StrEnum):
    SLOT = "Slot"
    WARMTH = "Warmth"


@dataclass(frozen=True)
class Wait:
    """What a request should wait for before it goes on."""

    awaited: Awaited
    rank: int
    backends: tuple[Backend, ...]


def worth_waiting(
    route: Route,
    ordering: Ordering,
    choice: tuple[Candidate, Endpoint] | None,
    tried: Sequence[Tried],
    waited: Collection[tuple[Awaited, int]],
    *,
    fallback: bool,
    once: bool = False,
    acts: bool = False,
) -> Wait | None:
    """`choice` is what would be asked otherwise; `waited` holds what the request has waited for in vain, with the rank
    of the targets."""
    if not ordering.excluded or not attempts_left(route, tried, fallback=fallback, once=once, acts=acts):
        return None
    worse = 1 << 30
    asked = {t.target.index for t in tried}
    if choice is not None and choice[0].place is Place.PRIORITY:
        candidate, endpoint = choice
        again = any(t.endpoint.key == endpoint.key and t.target.index == candidate.target.index for t in tried)
        worse = worse if again else candidate.target.rank
    may_hold = route.hold is not None and all(t.judged.verdict is Verdict.LOADING for t in tried)
    found: dict[tuple[int, Awaited], dict[str, Backend]] = {}
    for e in ordering.excluded:
        if isinstance(e.target, BrokenTarget) or e.target.rank >= worse:
            continue
        awaited = _awaited(e, may_hold)
        if awaited is None or (awaited, e.target.rank) in waited:
            continue
        if awaited is Awaited.SLOT and e.target.index in asked:
            continue
        found.setdefault((e.target.rank, awaited), {})[e.backend] = e.target.backend
    if not found:
        return None
    rank, awaited = min(found)
    return Wait(awaited, rank, tuple(found[rank, awaited].values()))


def wanted(ordering: Ordering, choice: tuple[Candidate, Endpoint] | None, wait: Wait | None) -> Iterator[str]:
    """The backends of ours without a pod that a request would rather have asked than `choice`, or that stand no later
    than what it waits for. One beside a choice of the same rank is not missed."""
    worst = 1 << 30
    if wait is not None:
        worst = wait.rank
    elif choice is not None and choice[0].place is Place.PRIORITY:
        worst = choice[0].target.rank - 1
    for e in ordering.excluded:
        if e.reason is not Barred.NO_ENDPOINT or isinstance(e.target, BrokenTarget) or e.target.rank > worst:
            continue
        if e.target.backend.engine is not Engine.EXTERNAL:
            yield e.target.backend.name


def _awaited(e: Excluded, may_hold: bool) -> Awaited | None:
    assert not isinstance(e.target, BrokenTarget)
    backend = e.target.backend
    if e.reason is Barred.AT_LIMIT:
        return Awaited.SLOT if backend.capacity is not None and backend.capacity.queued else None
    if not may_hold:
        return None
    # An engine of ours without a model is pulling it; a hosted one does not have it.
    pulling = e.reason is Barred.MODEL_MISSING and backend.engine is not Engine.EXTERNAL
    return Awaited.WARMTH if pulling or e.reason in (Barred.LOADING, Barred.NO_ENDPOINT) else None
