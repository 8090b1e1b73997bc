"""A stream that is slow to begin: whom else may it be asked of, and how many may be at once?

Decided here: failover.md rule 7. Not here: when a stream is slow, and who answers in the end (`gateway/relay`).
"""

from __future__ import annotations

from collections.abc import Sequence

from pointsman.domain.attempts import Tried, next_attempt
from pointsman.domain.candidates import Candidate, Ordering, Place
from pointsman.domain.table import Endpoint, Route

SHARE = 20
"""One request in so many may be asked twice at once."""


def beside(
    route: Route, ordering: Ordering, tried: Sequence[Tried], slow: Tried, *, fallback: bool
) -> tuple[Candidate, Endpoint] | None:
    """Who is asked beside the attempt that is `slow`; None for nobody.

    Only who could be asked first: neither an endpoint in its ramp nor one at its limit, none that this request was
    asked of already, and no target with a price unless the route allows it. It counts as an attempt."""
    hedge = route.hedge
    if hedge is None or not (fallback and route.fallback):
        return None
    good = tuple(c for c in ordering.candidates if c.place is Place.PRIORITY and (hedge.priced or not _priced(c)))
    choice = next_attempt(route, Ordering(good, ()), [*tried, slow], fallback=True)
    if choice is None or choice[1].key in {t.endpoint.key for t in (*tried, slow)}:
        return None
    return choice


def allowance(in_flight: int) -> int:
    """How many requests may be asked twice at once, of so many in flight."""
    return max(1, in_flight // SHARE)


def _priced(candidate: Candidate) -> bool:
    return candidate.target.traits.price is not None
