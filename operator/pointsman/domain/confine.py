"""An order of candidates, narrowed for one request by what was learnt outside of health.

Decided here: what remains of an order when only one endpoint keeps what the request continues, and when backends have
said that they do not know its operation. Not here: the order (`candidates.py`), and who has learnt it (`gateway/`).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from pointsman.domain.candidates import Barred, Candidate, Excluded, Ordering
from pointsman.domain.table import BrokenTarget

_ELSEWHERE = "another backend keeps what the request continues"


def confined(ordering: Ordering, endpoint_key: str) -> Ordering:
    """Only the endpoint that keeps what the request continues. It may be none of the candidates now: then nobody is."""
    left: list[Candidate] = []
    excluded: list[Excluded] = []
    for e in ordering.excluded:
        # What others wait for is not worth waiting for either.
        here = isinstance(e.target, BrokenTarget) or any(x.key == endpoint_key for x in e.target.backend.endpoints)
        excluded.append(e if here else replace(e, reason=Barred.ELSEWHERE, message=_ELSEWHERE))
    for candidate in ordering.candidates:
        endpoints = tuple(e for e in candidate.endpoints if e.key == endpoint_key)
        if endpoints:
            left.append(replace(candidate, endpoints=endpoints))
        else:
            excluded.append(Excluded(candidate.target, Barred.ELSEWHERE, _ELSEWHERE))
    return Ordering(tuple(left), tuple(excluded))


def without(ordering: Ordering, backends: Collection[str]) -> Ordering:
    """Nobody of `backends`, which do not know the operation; but all of them when nobody else is left: they may have
    learnt it."""
    left = tuple(c for c in ordering.candidates if c.target.backend.name not in backends)
    if not left or len(left) == len(ordering.candidates):
        return ordering
    gone = [
        Excluded(c.target, Barred.UNKNOWN_OPERATION, "it does not know this operation")
        for c in ordering.candidates
        if c.target.backend.name in backends
    ]
    return Ordering(left, (*ordering.excluded, *gone))
