"""An order narrowed to who keeps what a request continues, or to those who know its operation; and who may follow."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.asked import SmallWorld, backend, route

from pointsman.domain.attempts import Tried, left_behind, next_attempt
from pointsman.domain.candidates import Barred, Ordering
from pointsman.domain.confine import confined, without
from pointsman.domain.failure import FAULTS, fault
from pointsman.domain.verdict import EMPTY, FORGOTTEN, INCOMPLETE, Judgement, Verdict, Why

NAMES = ("a", "b", "c")


def world(pods: int = 1) -> SmallWorld:
    targets = [{"backend": name, "priority": n} for n, name in enumerate(NAMES)]
    return SmallWorld([backend(n, pods) for n in NAMES], route(targets), pods=dict.fromkeys(NAMES, pods))


def names(ordering: Ordering) -> list[str]:
    return [c.target.backend.name for c in ordering.candidates]


def test_only_the_pod_that_keeps_it_is_left() -> None:
    ordering = confined(world(pods=3).order(), "b-1")
    assert names(ordering) == ["b"]
    assert [e.key for e in ordering.candidates[0].endpoints] == ["b-1"]
    assert [(e.backend, e.reason) for e in ordering.excluded] == [("a", Barred.ELSEWHERE), ("c", Barred.ELSEWHERE)]


def test_nobody_is_left_when_who_keeps_it_cannot_serve() -> None:
    ordering = confined(world().order(), "gone-0")
    assert not ordering.candidates
    assert len(ordering.excluded) == len(NAMES)


@given(st.sets(st.sampled_from([*NAMES, "other"])))
def test_who_does_not_know_the_operation_is_passed_over_while_another_is_left(lacking: set[str]) -> None:
    before = world().order()
    ordering = without(before, lacking)
    left = [n for n in NAMES if n not in lacking]
    assert names(ordering) == (left or list(NAMES))
    assert {e.backend for e in ordering.excluded} == (set(NAMES) & lacking if left else set())


@pytest.mark.parametrize("reason", [Barred.UNKNOWN_OPERATION, Barred.ELSEWHERE])
def test_passing_over_them_is_no_fallback(reason: Barred) -> None:
    made = world()
    ordering = confined(made.order(), "c-0") if reason is Barred.ELSEWHERE else without(made.order(), {"a", "b"})
    assert {e.reason for e in ordering.excluded} == {reason}
    assert left_behind(ordering, [], ordering.candidates[0].target) is None


BUSY = Judgement(Verdict.BUSY, Why.RATE_LIMITED)
UNTOUCHED = [
    BUSY,
    Judgement(Verdict.LOADING, Why.LOADING),
    Judgement(Verdict.DENIED, Why.UNAUTHORIZED),
    Judgement(Verdict.MODEL_MISSING, Why.MODEL_NOT_FOUND),
    Judgement(Verdict.UNFIT, Why.NOT_KEPT),
    *(fault(w) for w in (Why.REFUSED, Why.DNS, Why.UNREACHABLE, Why.GONE, Why.TLS, Why.CONNECT_TIMEOUT, Why.PROXY)),
]
PERHAPS = [
    EMPTY,
    INCOMPLETE,
    FORGOTTEN,
    Judgement(Verdict.BUSY, Why.RATE_LIMITED, begun=True),
    Judgement(Verdict.FAILURE, Why.SERVER_ERROR, by_answer=True),
    *(j for j in FAULTS.values() if j not in UNTOUCHED and j.verdict is not Verdict.CANCELLED),
]


@pytest.mark.parametrize("judged", UNTOUCHED + PERHAPS, ids=lambda j: f"{j.verdict}-{j.why}")
def test_what_may_act_goes_on_only_from_who_has_not_begun(judged: Judgement) -> None:
    made = world()
    ordering = made.order()
    first = ordering.candidates[0]
    tried = [Tried(first.target, first.endpoints[0], first.place, judged, 1.0)]
    assert next_attempt(made.route, ordering, tried, fallback=True) is not None, "a mere question goes on"
    following = next_attempt(made.route, ordering, tried, fallback=True, acts=True)
    assert (following is not None) is (judged in UNTOUCHED)


def test_one_who_may_have_begun_ends_it_wherever_it_stands() -> None:
    made = world()
    ordering = made.order()
    a, b, _ = ordering.candidates
    tried = [
        Tried(a.target, a.endpoints[0], a.place, fault(Why.RESET), 1.0),
        Tried(b.target, b.endpoints[0], b.place, BUSY, 1.0),
    ]
    assert next_attempt(made.route, ordering, tried, fallback=True, acts=True) is None
