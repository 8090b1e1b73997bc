"""Why each candidate stands where it does, with the figures that decided.

Decided here: what is told. Not here: the order itself (`candidates.py`), of which this is the reading. Who changes a
strategy changes its words beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

from pointsman.domain.candidates import Candidate, Health, Ordering, Place, chair_of
from pointsman.domain.features import Features
from pointsman.domain.strategies import Seat
from pointsman.domain.table import Route

PLACES = {
    Place.PRIORITY: "usable",
    Place.RAMPING: "new, or back from an outage: it gets few requests at first",
    Place.TOO_LONG: "the prompt seems too long for it, but nobody else could answer",
    Place.LEAST_BAD: "nothing is usable: the least bad is tried, as fallback.whenAllUnhealthy says",
}


@dataclass(frozen=True)
class Figures:
    """Of one endpoint, for one request."""

    endpoint: str
    """Its address."""
    in_flight: int
    failures_in_a_row: int
    """Those that still count."""
    latency_ms: float | None
    """Smoothed: of streams or of whole answers, as the request wants. None: not known, or too old."""


@dataclass(frozen=True)
class Reason:
    """Of one candidate."""

    candidate: Candidate
    sentence: str
    figures: tuple[Figures, ...]


def reasons(route: Route, ordering: Ordering, health: Health, now: float, request: Features) -> list[Reason]:
    """One for each candidate of `ordering`, which must come from the same route, health, moment and request."""
    strategies = {tier.rank: tier.strategy for tier in route.for_request(request).tiers}
    out = []
    for (rank, place), group in groupby(ordering.candidates, key=lambda c: (c.target.rank, c.place)):
        candidates = list(group)
        chairs = [[chair_of(c.target, e, health) for e in c.endpoints] for c in candidates]
        crowd = [chair for some in chairs for chair in some]
        words: list[str] = []
        if place is not Place.LEAST_BAD and len(crowd) > 1:
            words = strategies[rank].words(tuple(crowd), request, now)
        at = 0
        for candidate, some in zip(candidates, chairs, strict=True):
            sentence = PLACES[place]
            if words:
                sentence = f"{sentence}; {words[at]}"
            elif place is Place.PRIORITY:
                sentence = "usable, by its priority"
            out.append(Reason(candidate, sentence, tuple(_figures(c, now, request) for c in some)))
            at += len(some)
    return out


def _figures(chair: Seat, now: float, request: Features) -> Figures:
    machine = chair.machine
    pace = machine.pace_of(chair.target.upstream_model, request.stream, now)
    return Figures(chair.endpoint.address, machine.in_flight, machine.failures_in_a_row(now), pace)
