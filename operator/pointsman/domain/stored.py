"""Who may keep what a client asks for by its id, and what it gets when nobody has it.

Decided here: which backends are asked, in which order, what an answer to such a question means, and what follows from
all of them. Not here: addresses (`dialects/openai_stored.py`), connections (`gateway/relay/lookup.py`).

- An id goes first to the endpoint that is known to keep it, then to the others, those that are out of service last. The
  first that has it answers: to ask again after a 404 is safe, whatever is asked.
- That nobody has it may be said only when everybody said so. Else the client hears that it could not be looked up
  everywhere, with a line for each: never a 404 that may not be true.
- Such questions are no traffic: they take no slot and say nothing about health.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pointsman.domain.attempts import Surrender
from pointsman.domain.judging import judge_status
from pointsman.domain.table import Backend, Endpoint, Keeps, RoutingTable
from pointsman.domain.verdict import Judgement, Verdict, Why

MOST = 16
"""Endpoints that are asked for one id."""

ABSENT = Judgement(Verdict.UNFIT, Why.NOT_KEPT, "it does not have it")
_UNKNOWN = frozenset((404, 405, 410, 501))
"""It is not here, or nothing of the kind can be."""
_ABOUT_US = frozenset((401, 402, 403, 408, 425, 429))
"""4xx that say nothing of what was asked."""


@dataclass(frozen=True, slots=True)
class Shelf:
    """A place where it may be."""

    backend: Backend
    endpoint: Endpoint


def keepers(table: RoutingTable) -> list[Backend]:
    """Backends that keep anything, of those to which a route leads: nobody could have asked the others."""
    led_to = {t.backend.name for r in table.routes.values() for v in r.variants for t in v.targets}
    return [b for name, b in table.backends.items() if name in led_to and b.keeps is not Keeps.NOTHING]


def shelves(backends: Sequence[Backend], known: str | None, fit: Callable[[Endpoint], bool]) -> list[Shelf]:
    """In the order in which they are asked. `known`: the key of the endpoint that keeps it, as far as we know."""
    places = [Shelf(b, e) for b in backends for e in b.endpoints]
    places.sort(key=lambda s: (s.endpoint.key != known, not fit(s.endpoint)))
    return places[:MOST]


def may_list(table: RoutingTable, model: str | None) -> list[Backend]:
    """Backends that may be asked for all that they keep: those of the model's route, in its order, or all. The model
    is one that a route has."""
    if model is None:
        return [b for b in keepers(table) if b.keeps is Keeps.ALL]
    found = table.find(model)
    targets = found[1].targets if found is not None else ()
    return list({t.backend.name: t.backend for t in targets if t.backend.keeps is Keeps.ALL}.values())


def judge_stored(status: int, body: bytes, content_type: str, retry_after: float | None) -> Judgement:
    """What an answer that is not 2xx means. `Unfit` with `NotKept`: it is not there. `Caller`: the client's own fault,
    if nobody else has it. All others: it could not be looked up there."""
    if status in _UNKNOWN:
        return ABSENT
    judged = judge_status(status, body, content_type, retry_after)
    if not 400 <= status < 500 or status in _ABOUT_US:
        return judged
    if judged.why is Why.NOT_KEPT:
        return ABSENT
    return Judgement(Verdict.CALLER, Why.BAD_REQUEST, "it refused what was asked")


@dataclass(frozen=True, slots=True)
class Looked:
    """One place, and what it said."""

    backend: str
    judged: Judgement
    ms: float


def not_found(what: str, looked: Sequence[Looked], left: int) -> Surrender:
    """What the client gets when nobody gave an answer. `what` is `response resp_1`; `left`: how many were not asked for
    want of time."""
    troubles = [x for x in looked if x.judged is not ABSENT]
    if not troubles and not left:
        head = f"no backend keeps the {what}"
        return Surrender(
            404, "not_found", head if looked else f"{head}: none that is in use keeps anything", None, True
        )
    lines = [
        f"- {x.backend}: {x.judged.verdict.value}, {x.judged.why.value}: {x.judged.sentence}, after {x.ms:.0f} ms"
        for x in looked
    ]
    if left:
        lines.append(f"- {left} more: not asked, no time was left")
    message = "\n".join([f"the {what} could not be looked up everywhere, and who answered does not have it", *lines])
    verdicts = {x.judged.verdict for x in troubles}
    if verdicts == {Verdict.BUSY} and not left:
        waits = [x.judged.retry_after for x in troubles if x.judged.retry_after is not None]
        return Surrender(429, "all_backends_busy", message, max(1.0, min(waits, default=1.0)))
    if left or Verdict.STALLED in verdicts:
        return Surrender(504, "backend_timeout", message)
    if verdicts <= {Verdict.LOADING, Verdict.DENIED, Verdict.MODEL_MISSING}:
        return Surrender(503, "no_backend", message, None, Verdict.LOADING not in verdicts)
    return Surrender(502, "backend_failure", message)
