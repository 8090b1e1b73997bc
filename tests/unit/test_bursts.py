"""The judge of `make bursts` sees what it is there to see; its trace is the same for the same seed."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from tests.bursts import report, trace
from tests.bursts.judge import findings, goings, shortest, wakes
from tests.bursts.ledger import Ledger
from tests.bursts.run import Outcome
from tests.bursts.watching import Change, Watched
from tests.demo.load import Seen

BEGAN = 1000.0
CHANGES = [Change(BEGAN + at, a, b) for at, a, b in ((0.2, 0, 1), (8, 1, 2), (80, 2, 1), (130, 1, 0))]


def perfect() -> Outcome:
    """Two requests, each answered by one pod; the pods go a window later."""
    made = trace.of(1, [("burst", 4)])
    ledger, seen = Ledger(), []
    for request in made.requests:
        started = BEGAN + request.at
        ended = started + request.seconds
        pod = "a" if request.number % 2 else "b"
        ledger.note(f"{pod} begin {request.name}", started)
        ledger.note(f"{pod} end {request.name}", ended)
        text = " ".join([request.name, *(str(n) for n in range(1, request.words))])
        seen.append((request, Seen(request.stream, started, "burst", started + 1, ended, text)))
    watched = Watched(replicas=0, changes=list(CHANGES), writers={"pointsman"}, generations=[3, 7])
    watched.ready_at, watched.pods = [(BEGAN + 1, 1), (BEGAN + 9, 2)], {"a": BEGAN + 80.5, "b": BEGAN + 130.5}
    return Outcome(made, BEGAN, seen, ledger, watched, [])


def test_a_seed_draws_the_same_trace_again_with_every_kind_in_it() -> None:
    one = trace.make(2, 1800)
    assert one == trace.make(2, 1800)
    assert one != trace.make(3, 1800)
    assert one.ends >= 1800
    assert {p.kind for p in one.phases} == set(trace.BAG)
    assert one.phases[-1].kind == "lull"


async def test_nothing_is_found_where_nothing_was_broken() -> None:
    outcome = perfect()
    assert len(outcome.seen) > 1
    assert findings(outcome) == []
    assert report.KEPT in report.text(outcome)
    assert wakes(outcome) == [1.0]
    assert (shortest(CHANGES, up_first=True), shortest(CHANGES, up_first=False)) == (72.0, None)
    assert [g.pod for g in goings(outcome)] == ["a", "b"]


def test_a_request_that_failed_or_was_cut_short_or_asked_twice_is_found() -> None:
    outcome = perfect()
    (first, one), (second, two), *rest = outcome.seen
    outcome.seen = [(first, replace(one, error="no")), (second, replace(two, text=two.text[:-1])), *rest]
    outcome.ledger.note(f"a begin {first.name}", BEGAN + 3)
    outcome.ledger.note(f"a cut {first.name}", BEGAN + 4)
    whole = len(two.text)
    assert findings(outcome) == ["r0: no", f"r1: {whole - 1} of {whole} characters arrived", "r0: begun twice"]
    assert outcome.ledger.cut() == ["r0"]


def test_an_answer_that_no_pod_gave_is_found() -> None:
    outcome = perfect()
    del outcome.ledger.of["r0"]
    assert findings(outcome) == ["r0: its client has an answer that no pod gave"]


def test_a_flap_is_found_and_what_was_before_the_trace_is_not() -> None:
    outcome = perfect()
    before = Change(BEGAN - 1, 1, 0)
    outcome.watched.changes = [before, *CHANGES[:2], Change(BEGAN + 40, 2, 1), Change(BEGAN + 44, 1, 2)]
    outcome.watched.generations = [3, 8]
    assert findings(outcome) == ["it flapped: 1 → 2 → 1 within 32 s", "it flapped: 2 → 1 → 2 within 4 s"]


def test_another_writer_and_a_change_that_nobody_saw_are_found() -> None:
    outcome = perfect()
    outcome.watched.writers.add("kubectl")
    outcome.watched.generations.append(9)
    assert findings(outcome) == [
        "the number was written by ['kubectl', 'pointsman']",
        "2 changes of the Deployment that are none of its number",
    ]


def test_a_request_to_a_pod_that_goes_is_found() -> None:
    outcome = perfect()
    outcome.watched.pods["a"] = BEGAN - 2
    found = findings(outcome)
    assert len(found) == 1
    assert "times after it was told to go" in found[0]


async def test_what_is_waited_for_is_named_when_it_does_not_come() -> None:
    watched = Watched(replicas=1)
    task = asyncio.create_task(watched.until(lambda w: w.replicas == 0, "it goes to none", 0.01))
    (error,) = await asyncio.gather(task, return_exceptions=True)
    assert str(error) == "not within 0 s: it goes to none; there are 1"
