"""The model sees what it is there to see: records of a run that went right, with one thing made wrong in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

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
            "hedged": RouteSpec("hedged", ("alpha", "bravo", SAFE), 8, hedges=True),
            "twice": RouteSpec("twice", ("alpha", "bravo"), 8, hedges=True),
            "alone": RouteSpec("alone", ("alpha",), 2),
            "full": RouteSpec("full", ("golf", SAFE), 8),
            "held": RouteSpec("held", ("alpha", SAFE), 8, holds=True),
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
        return verdict.findings + totals.check_health(model) + totals.check_limits(model)

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


def raced() -> Records:
    """One was slow, another was asked beside it and won."""
    r = Records()
    r.arrive("q0", "alpha", "slow first token", 100.0, "hedged", stream=True)
    r.arrivals[0] = msgspec.structs.replace(r.arrivals[0], done=100.6, how="left")
    r.arrive("q0", "bravo", "none", 100.3, "hedged", stream=True)
    r.moves.append(Move("q0", "alpha", "bravo", "SlowFirstToken"))
    r.asked.append(
        Asked("q0", "hedged", True, True, False, 99.9, 100.4, status=200, head=100.35, backend="bravo", attempts=2,
              text=answer_text("bravo", "q0", 1), finished=True, done_events=1, whole=True)
    )  # fmt: skip
    return r


def waited(reason: str, model: str, seconds: float) -> Records:
    """The first target was full or loading; the request went on to the next after so long."""
    r = Records()
    first = "golf" if model == "full" else "alpha"
    fault = "slow first token" if model == "full" else "503, loading"
    r.arrive("q0", first, fault, 100.0, model, stream=True)
    r.arrive("q1", SAFE, "none", 100.1 + seconds, model, stream=True)
    r.arrivals[0] = msgspec.structs.replace(r.arrivals[0], done=100.0 + (0.9 if model == "full" else 0.0))
    r.moves.append(Move("q1", first, SAFE, reason))
    if model == "held":
        r.moves.append(Move("q0", first, SAFE, reason))
        r.arrive("q0", SAFE, "none", 100.9, model, stream=True)
    for n, backend in ((0, first if model == "full" else SAFE), (1, SAFE)):
        number = 2 if model == "held" and n == 0 else n
        done = 100.95 if n == 0 else 100.2 + seconds
        r.asked.append(
            Asked(f"q{n}", model, True, True, False, 99.99 + n * 0.11, done, status=200, head=done, backend=backend,
                  attempts=2 if number == 2 else 1, text=answer_text(backend, f"q{n}", number), finished=True,
                  done_events=1, whole=True)
        )  # fmt: skip
    return r


def test_a_race_that_went_right_has_no_findings() -> None:
    assert raced().findings() == []


def test_a_race_is_judged() -> None:
    r = raced()
    r.arrivals[0] = msgspec.structs.replace(r.arrivals[0], done=104.0)
    assert any("worked on though bravo had answered" in f for f in r.findings())
    r = raced()
    r.arrive("q0", SAFE, "none", 101.2, "hedged", stream=True)
    assert any("though its answer had begun" in f for f in r.findings())
    r = raced()
    r.of("q0").text = answer_text("bravo", "q0", 7)
    assert any("the client got 200" in f for f in r.findings())
    r = raced()
    r.asked[0] = msgspec.structs.replace(r.asked[0], at=100.25)
    assert any("was final, and bravo was asked" in f for f in r.findings()), "too early for another"


def test_who_is_asked_anew_after_another_is_not_taken_for_one_that_was_sent_again() -> None:
    """Where two may run beside each other only the times tell these apart: too early for that, it is certain."""
    r = Records()
    r.arrive("q0", "alpha", "reset mid-headers", 100.0, "twice", stream=True)
    r.arrivals[0] = msgspec.structs.replace(r.arrivals[0], reused=True)
    r.arrive("q0", "bravo", "429", 100.02, "twice", stream=True)
    r.arrive("q0", "alpha", "none", 100.04, "twice", stream=True)
    r.moves += [Move("q0", "alpha", "bravo", "Cut"), Move("q0", "bravo", "alpha", "RateLimited")]
    r.asked.append(
        Asked("q0", "twice", True, True, False, 99.99, 100.06, status=200, head=100.05, backend="alpha", attempts=3,
              text=answer_text("alpha", "q0", 2), finished=True, done_events=1, whole=True)
    )  # fmt: skip
    assert r.findings() == []
    r.arrivals.pop(1)
    assert any("says 3 attempts" in f for f in r.findings()), "this one was sent again"


@pytest.mark.parametrize(("how", "said"), [("killed", ""), ("done", "says alpha: Failure, BrokenHttp")])
def test_one_that_went_down_may_have_been_read_before_it_was_asked_anew(
    how: Literal["killed", "done"], said: str
) -> None:
    r = Records()
    fault = "not HTTP" if how == "killed" else "closed before headers"
    for n in range(2):
        r.arrive("q0", "alpha", fault, 100.0 + n / 50, "alone")
        r.arrivals[n] = msgspec.structs.replace(r.arrivals[n], reused=n == 0, how=how)
    line = "\\n- alpha (alone): Failure, BrokenHttp: what it sends is not HTTP/1.1, after 1 ms"
    error = f'{{"message":"model alone: no backend gave an answer{line * 2}","code":"backend_failure"}}'
    r.asked.append(
        Asked("q0", "alone", False, True, False, 99.99, 100.06, status=502, attempts=2, whole=True,
              body=f'{{"error":{error}}}')
    )  # fmt: skip
    findings = r.findings()
    assert any(said in f for f in findings) if said else findings == [], findings


@pytest.mark.parametrize(("reason", "model", "long", "short"), [("AtLimit", "full", 0.2, 0.01),
                                                                ("Loading", "held", 0.85, 0.3)])  # fmt: skip
def test_waits_are_judged(reason: str, model: str, long: float, short: float) -> None:
    assert waited(reason, model, long).findings() == []
    assert any("and went on" in f for f in waited(reason, model, short).findings())


def test_a_limit_is_judged() -> None:
    r = waited("AtLimit", "full", 0.2)
    r.arrive("q2", "golf", "slow first token", 100.1, "full", stream=True)
    r.arrivals[-1] = msgspec.structs.replace(r.arrivals[-1], done=100.8)
    r.asked.append(
        Asked("q2", "full", True, True, False, 100.05, 100.9, status=200, head=100.85, backend="golf", attempts=1,
              text=answer_text("golf", "q2", 2), finished=True, done_events=1, whole=True)
    )  # fmt: skip
    assert r.findings() == ["golf was asked 2 at once; its limit is 1"]
