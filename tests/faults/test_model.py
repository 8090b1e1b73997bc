"""The model sees what it is there to see: records of a run that went right, with one thing made wrong in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec
import pytest
from tests.faults import totals
from tests.faults.model import Model
from tests.faults.values import Arrival, Asked, Change, Down, Move, answer_text
from tests.faults.world import SAFE, RouteSpec, World


class _Small(World):
    """One route that is sure, one that is not."""

    @property
    def routes(self) -> dict[str, RouteSpec]:  # type: ignore[override]
        return {
            "sure": RouteSpec("sure", ("alpha", "bravo", SAFE), 8),
            "bare": RouteSpec("bare", ("alpha", "bravo"), 2),
        }


@dataclass
class Records:
    """A request that met a 500 and was answered by the next, one refused, one that broke off, one that was left."""

    asked: list[Asked] = field(default_factory=list)
    arrivals: list[Arrival] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    downs: list[Down] = field(default_factory=list)

    def arrive(
        self, request: str, backend: str, fault: str, at: float, model: str = "sure", stream: bool = False
    ) -> None:
        number = len(self.arrivals)
        self.arrivals.append(
            Arrival(backend, number, request, model, fault, stream, False, stream, True, at, at + 0.01, "done")
        )

    def findings(self) -> list[str]:
        model = Model(_Small(0), self.asked, self.arrivals, self.downs, self.changes, self.moves, reloads=False)
        verdict = model.check()
        return verdict.findings + totals.check_health(model)

    def of(self, request: str) -> Asked:
        return next(a for a in self.asked if a.request == request)


def records() -> Records:
    r = Records()
    r.arrive("q0", "alpha", "500", 100.0)
    r.arrive("q0", "bravo", "none", 100.1)
    r.moves.append(Move("q0", "alpha", "bravo", "ServerError"))
    r.asked.append(
        Asked("q0", "sure", False, True, False, 99.9, 100.3, status=200, backend="bravo", attempts=2,
              text=answer_text("bravo", "q0", 1), whole=True, body="{}")
    )  # fmt: skip
    r.arrive("q1", "alpha", "429, Retry-After 1", 110.0, "bare")
    r.arrive("q1", "bravo", "504", 110.1, "bare")
    r.moves.append(Move("q1", "alpha", "bravo", "RateLimited"))
    message = (
        "model bare: no backend gave an answer\\n- alpha (bare): Busy, RateLimited: it limits our rate, after 1 ms\\n"
        "- bravo (bare): Failure, ServerError: its server failed, after 1 ms"
    )
    r.asked.append(
        Asked("q1", "bare", False, True, False, 109.9, 110.3, status=502, attempts=2, whole=True,
              body=f'{{"error":{{"message":"{message}","code":"backend_failure"}}}}')
    )  # fmt: skip
    r.arrive("q2", "alpha", "cut mid-content", 120.0, stream=True)
    r.asked.append(
        Asked("q2", "sure", True, True, False, 119.9, 120.3, status=200, backend="alpha", attempts=1,
              text=" ".join(answer_text("alpha", "q2", 4).split(" ")[:2]), error_events=1, whole=True)
    )  # fmt: skip
    r.arrive("q3", "alpha", "silence", 130.0, stream=True)
    r.asked.append(Asked("q3", "sure", True, True, False, 129.9, 130.2, left="asked"))
    return r


def test_a_run_that_went_right_has_no_findings() -> None:
    assert records().findings() == []


def _set(request: str, **values: object) -> Callable[[Records], None]:
    def change(r: Records) -> None:
        for name, value in values.items():
            setattr(r.of(request), name, value)

    return change


def _arrival(number: int, **values: object) -> Callable[[Records], None]:
    def change(r: Records) -> None:
        r.arrivals[number] = msgspec.structs.replace(r.arrivals[number], **values)

    return change


def _again(
    request: str, backend: str, at: float, model: str = "sure", stream: bool = False
) -> Callable[[Records], None]:
    return lambda r: r.arrive(request, backend, "none", at, model, stream)


def _taken_out(reason: str) -> Callable[[Records], None]:
    return lambda r: r.changes.append(Change("bravo", 105.0, "Healthy", "Unhealthy", reason))


WRONG: dict[str, tuple[Callable[[Records], None], str]] = {
    "the answer of somebody else": (_set("q0", text=answer_text("bravo", "q9", 1)), "the client got 200"),
    "two answers spliced": (_set("q0", text=answer_text("bravo", "q0", 1) * 2), "the client got 200"),
    "an answer of another attempt": (_set("q0", text=answer_text("bravo", "q0", 7)), "the client got 200"),
    "a cut body": (_set("q0", whole=False), "the client got 200"),
    "no answer": (_set("q0", status=0), "got no answer"),
    "a late answer": (_set("q0", done=130.0), "was answered after"),
    "a wrong name": (_set("q0", backend="alpha"), "says that alpha answered"),
    "wrong attempts": (_set("q0", attempts=3), "says 3 attempts"),
    "a request failed though it need not be": (_set("q1", model="sure"), "though safe would have answered"),
    "the wrong status": (_set("q1", status=429), "the rules say 502"),
    "an attempt that is not told of": (lambda r: r.arrivals.pop(3), "what happened was nothing"),
    "a fault by another verdict": (_arrival(2, fault="401"), "says alpha: Busy, RateLimited"),
    "a reason that is not the table's": (_arrival(0, fault="302"), "was taken for ServerError"),
    "asked again after a whole answer": (_again("q0", "safe", 100.2), "was final, and safe was asked"),
    "asked again after content": (_again("q2", "bravo", 120.1, stream=True), "was final, and bravo was asked"),
    "[DONE] behind half an answer": (_set("q2", done_events=1), "the client got 200"),
    "half an answer without an error": (_set("q2", error_events=0), "the client got 200"),
    "more of the answer than was sent": (_set("q2", text=answer_text("alpha", "q2", 4)), "the client got 200"),
    "a changed body": (_arrival(0, intact=False), "another body"),
    "a backend that works on": (_arrival(5, done=135.0), "worked on for"),
    "one passed over": (_arrival(0, backend="safe"), "was asked though bravo was left"),
    "one outside of the route": (_arrival(0, backend="hotel"), "no target of its route"),
    "one asked in its pause": (_again("q4", "alpha", 110.8, "bare"), "again in its pause"),
    "one taken out without a cause": (_taken_out("ServerError"), "without a cause"),
    "one that was never down": (_taken_out("Refused"), "without a cause"),
    "a request nobody sent": (_again("q7", "alpha", 140.0), "no client asked for it"),
}


@pytest.mark.parametrize("name", WRONG)
def test_the_model_sees(name: str) -> None:
    change, sentence = WRONG[name]
    r = records()
    r.asked.append(
        Asked("q4", "bare", False, True, False, 110.7, 111.0, status=200, backend="alpha", attempts=1, whole=True,
              text=answer_text("alpha", "q4", 6))
    )  # fmt: skip
    if name != "one asked in its pause":
        r.asked.pop()
    change(r)
    assert any(sentence in f for f in r.findings()), r.findings()
