"""The order of candidates and the reason for each exclusion: what `explain` prints."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.running_gateway import external, ollama, route, table

from pointsman.domain.book import HealthBook, missing_from
from pointsman.domain.candidates import Barred, Ordering, Place, order, target_states
from pointsman.domain.failure import fault
from pointsman.domain.probed import Probed, ProbeOutcome
from pointsman.domain.table import RefProblem, RoutingTable
from pointsman.domain.verdict import Judgement, Verdict, Why

NOW = 1000.0
BUSY = Judgement(Verdict.BUSY, Why.RATE_LIMITED, retry_after=9.0)
DENIED = Judgement(Verdict.DENIED, Why.UNAUTHORIZED)
MISSING = Judgement(Verdict.MODEL_MISSING, Why.MODEL_NOT_FOUND)
LOADING = Judgement(Verdict.LOADING, Why.LOADING)
REFUSED = fault(Why.REFUSED)


class World:
    def __init__(self, *targets: str, **fallback: Any) -> None:
        names = list(dict.fromkeys(t.partition(":")[0] for t in targets))
        self.table: RoutingTable = table(
            [external(n, f"http://{n}.test/v1") for n in names if n != "absent"], [route(*targets, **fallback)]
        )
        self.route = self.table.routes["r"]
        self.book = HealthBook()
        self.book.adopt(self.table, NOW)

    def saw(self, name: str, judged: Judgement, request: str = "r") -> None:
        key = self.table.backends[name].endpoints[0].key
        self.book.observe_answer(key, judged, model="m", request=request, now=NOW, waited_since=NOW - 1)

    def probe(self, name: str, outcome: ProbeOutcome, times: int) -> None:
        for _ in range(times):
            self.book.observe_probe(self.table.backends[name].endpoints[0].key, Probed(outcome, NOW), NOW)

    def order(self, **how: Any) -> Ordering:
        return order(self.route, self.book, NOW, **how)


def names(ordering: Ordering) -> list[str]:
    return [c.target.backend.name for c in ordering.candidates]


def excluded(ordering: Ordering) -> list[tuple[str, str]]:
    return [(e.backend, e.reason.value) for e in ordering.excluded]


def test_priority_then_place() -> None:
    assert names(World("a", "b", "c").order()) == ["a", "b", "c"]


def test_each_exclusion_has_its_reason_and_a_sentence() -> None:
    w = World("a", "b", "c", "d", "e", "absent", "f")
    w.saw("a", REFUSED)
    w.saw("b", BUSY)
    w.saw("c", DENIED)
    w.saw("d", MISSING)
    w.saw("e", LOADING)
    o = w.order()
    assert names(o) == ["f"]
    assert excluded(o) == [
        ("a", "Unhealthy"), ("b", "Saturated"), ("c", "Denied"), ("d", "ModelMissing"), ("e", "Loading"),
        ("absent", "BackendNotFound"),
    ]  # fmt: skip
    assert [e.told(NOW) for e in o.excluded][:2] == [
        "it does not answer: it refuses connections", "it is busy, for another 9 s",
    ]  # fmt: skip


def test_what_a_report_says_of_targets_stays_the_same_while_nothing_changes() -> None:
    w = World("a", "b", "c", "d")
    for name, judged in zip("abcd", (REFUSED, BUSY, DENIED, MISSING), strict=True):
        w.saw(name, judged)
    at_once, later = (list(target_states(w.route, w.book, NOW + passed)) for passed in (0.0, 3.0))
    assert all(barred is not None for _, barred in at_once)
    assert later == at_once


def test_fallback_off_leaves_the_first() -> None:
    for o in (World("a", "b", mode="None").order(), World("a", "b").order(fallback=False)):
        assert names(o) == ["a"]
        assert excluded(o) == [("b", "FallbackOff")]


def test_ramping_endpoint_comes_last_but_serves() -> None:
    w = World("a", "b")
    w.saw("a", REFUSED)
    w.probe("a", ProbeOutcome.OK, 2)
    assert names(w.order()) == ["a", "b"]
    machine = w.book.machine(w.table.backends["a"].endpoints[0].key)
    assert machine is not None
    machine.begin()
    o = w.order()
    assert names(o) == ["b", "a"]
    assert o.candidates[1].place is Place.RAMPING


def test_try_one_prefers_the_least_bad() -> None:
    w = World("a", "b", "c")
    w.saw("a", MISSING)
    w.saw("b", REFUSED)
    w.saw("c", LOADING)
    o = w.order()
    assert [(c.target.backend.name, c.place) for c in o.candidates] == [
        ("c", Place.LEAST_BAD), ("b", Place.LEAST_BAD), ("a", Place.LEAST_BAD),
    ]  # fmt: skip


def test_try_one_leaves_denied_and_saturated_out() -> None:
    w = World("a", "b")
    w.saw("a", DENIED)
    w.saw("b", BUSY)
    assert names(w.order()) == []


def test_try_one_allows_one_trial_at_a_time() -> None:
    w = World("a")
    w.saw("a", REFUSED)
    machine = w.book.machine(w.table.backends["a"].endpoints[0].key)
    assert machine is not None
    trial = machine.begin()
    assert names(w.order()) == []
    machine.end(trial)
    assert names(w.order()) == ["a"]


def test_fail_tries_nobody() -> None:
    w = World("a", whenAllUnhealthy="Fail")
    w.saw("a", REFUSED)
    assert names(w.order()) == []


def test_backend_without_a_pod() -> None:
    compiled = table([ollama("cold")], [route("cold")])
    book = HealthBook()
    book.adopt(compiled, NOW)
    o = order(compiled.routes["r"], book, NOW)
    assert [(e.reason, e.message) for e in o.excluded] == [(Barred.NO_ENDPOINT, "no pod of it is ready")]


def test_least_loaded_endpoint_first_and_sick_ones_out() -> None:
    compiled = table([ollama("p")], [route("p")], {"p": [1, 2, 3]})
    book = HealthBook()
    book.adopt(compiled, NOW)
    keys = [e.key for e in compiled.backends["p"].endpoints]
    first = book.machine(keys[0])
    assert first is not None
    first.begin()
    book.observe_answer(keys[1], REFUSED, model="m", request="r", now=NOW, waited_since=NOW)
    [candidate] = order(compiled.routes["r"], book, NOW).candidates
    assert [e.key for e in candidate.endpoints] == [keys[2], keys[0]]


def test_health_is_kept_while_the_key_stays() -> None:
    w = World("a", "b")
    w.saw("a", REFUSED)
    w.book.adopt(
        table([external("a", "http://a.test/v1"), external("b", "http://moved.test/v1")], [route("a", "b")]), NOW
    )
    assert names(w.order()) == ["b"]
    w.book.adopt(table([external("a", "http://elsewhere.test/v1")], [route("a")]), NOW)
    assert len(list(w.book.endpoints())) == 1


def test_lists_prove_absence_only_for_engines_that_we_run() -> None:
    compiled = table([ollama("p"), external("x", "http://x.test/v1")], [])
    own, hosted = compiled.backends["p"], compiled.backends["x"]
    sent = own.models["m"]
    assert missing_from(own, {"other:latest"}) == {sent}
    assert missing_from(own, {sent}) == frozenset()
    assert missing_from(hosted, set()) is None


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from([None, REFUSED, BUSY, DENIED, MISSING, LOADING]), min_size=1, max_size=6),
    st.booleans(),
    st.booleans(),
)
def test_every_target_is_in_the_list_exactly_once(seen: list[Judgement | None], fallback: bool, try_one: bool) -> None:
    letters = "abcdef"[: len(seen)]
    w = World(*letters, whenAllUnhealthy="TryOne" if try_one else "Fail")
    for name, judged in zip(letters, seen, strict=True):
        if judged is not None:
            w.saw(name, judged)
    o = w.order(fallback=fallback)
    usual = [c for c in o.candidates if c.place is not Place.LEAST_BAD]
    assert sorted(names(o)) == sorted(set(names(o)))
    assert sorted([c.target.backend.name for c in usual] + [e.backend for e in o.excluded]) == sorted(letters)
    assert [c.target.index for c in usual] == sorted(c.target.index for c in usual)
    if usual:
        assert len(usual) == len(o.candidates), "the least bad are asked only when nobody else is there"
    if fallback:
        able = {c.target.backend.name for c in usual}
        for target, barred in target_states(w.route, w.book, NOW):
            assert (barred is None) == (target.backend.name in able)  # type: ignore[union-attr]


def test_every_broken_reference_has_its_word_in_explain() -> None:
    assert {p.value for p in RefProblem} <= {b.value for b in Barred}
