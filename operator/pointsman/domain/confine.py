"""An order of candidates, narrowed for one request by what was learnt outside of health.

Decided here: what remains of an order when only one endpoint keeps what the request continues, and when backends have
said that they do not know its operation. Not here: the order (`candidates.py`), and who has learnt it (`gateway/`).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from pointsman.domain.candidates import Barred, Candidate, Excluded, Ordering


def confined(ordering: Ordering, endpoint_key: str) -> Ordering:
    """Only the endpoint that keeps what the request continues. It may be none of the candidates now: then nobody is."""
    left: list[Candidate] = []
    excluded = list(ordering.excluded)
    for candidate in ordering.candidates:
        here = tuple(e for e in candidate.endpoints if e.key == endpoint_key)
        if here:
            left.append(replace(candidate, endpoints=here))
        else:
            message = "another backend keeps what the request continues"
            excluded.append(Excluded(candidate.target, Barred.ELSEWHERE, message))
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
