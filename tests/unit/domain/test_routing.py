"""What a table makes of rules, patterns, weights and traits; and what becomes of requests nobody can take."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.asked import NOW, Asked, SmallWorld, backend, route

from pointsman.api.route import Needed, TaskType
from pointsman.domain.attempts import left_behind, surrender
from pointsman.domain.candidates import Barred, Place, target_states
from pointsman.domain.explanation import reasons
from pointsman.domain.failure import fault
from pointsman.domain.globs import Glob
from pointsman.domain.verdict import Judgement, Verdict, Why

TEXTS = st.text("ab*", max_size=8)


# ---- patterns


@given(TEXTS, st.text("ab", max_size=12))
def test_a_pattern_matches_what_the_same_expression_would(pattern: str, text: str) -> None:
    expression = ".*".join(map(re.escape, pattern.split("*")))
    assert Glob(pattern).matches(text) == (re.fullmatch(expression, text) is not None)


def test_a_pattern_made_to_take_long_takes_none() -> None:
    assert not Glob("*a" * 60 + "b").matches("a" * 200_000)


def test_specific_is_who_says_more_in_letters() -> None:
    ordered = ["gpt-4o-mini*", "gpt-4o*", "*4o*", "gpt*", "*"]
    assert sorted(ordered, key=lambda p: Glob(p).specificity, reverse=True) == [
        "gpt-4o-mini*",
        "gpt-4o*",
        "gpt*",
        "*4o*",
        "*",
    ]


def found(world: SmallWorld, model: str) -> tuple[str, str] | None:
    at = world.table.find(model)
    return None if at is None else (at[0], at[1].name)


def test_of_two_patterns_the_more_specific_then_the_older_route_answers() -> None:
    world = SmallWorld(
        [backend("a")],
        route(["a"], "young", models=["gpt-4o*", "*mini"], created="2026-02-01T00:00:00Z"),
        route(["a"], "old", models=["gpt*", "*nano"], created="2026-01-01T00:00:00Z"),
        route(["a"], "exact", models=["gpt-4o"], created="2026-03-01T00:00:00Z"),
    )
    assert found(world, "gpt-4o") == ("gpt-4o", "exact")
    assert found(world, "gpt-4o-x") == ("gpt-4o*", "young")
    assert found(world, "gpt-3") == ("gpt*", "old")
    assert found(world, "x-mini") == ("*mini", "young")
    assert found(world, "llama") is None
    assert world.table.spoken == ["*mini", "*nano", "gpt*", "gpt-4o", "gpt-4o*"]


def test_the_same_pattern_twice_is_a_clash_on_the_younger() -> None:
    world = SmallWorld(
        [backend("a")],
        route(["a"], "young", models=["gpt*"], created="2026-02-01T00:00:00Z"),
        route(["a"], "old", models=["gpt*"], created="2026-01-01T00:00:00Z"),
    )
    assert found(world, "gpt-4") == ("gpt*", "old")
    assert [(c.route, c.model, c.winner) for c in world.table.clashes] == [("young", "gpt*", "old")]


# ---- rules


@pytest.mark.parametrize(
    ("match", "request_", "holds"),
    [
        ({"taskTypes": ["Planning"]}, Asked(task=TaskType.PLANNING), True),
        ({"taskTypes": ["Planning", "Reasoning"]}, Asked(task=TaskType.REASONING), True),
        ({"taskTypes": ["Planning"]}, Asked(), False),
        ({"capabilities": ["Tools"]}, Asked(needs=frozenset((Needed.TOOLS, Needed.VISION))), True),
        ({"capabilities": ["Tools", "Vision"]}, Asked(needs=frozenset((Needed.TOOLS,))), False),
        ({"headers": [{"name": "X-Team", "value": "a"}]}, Asked(headers={b"x-team": "a"}), True),
        ({"headers": [{"name": "X-Team", "value": "a*"}]}, Asked(headers={b"x-team": "ab"}), False),
        ({"headers": [{"name": "X-Team", "type": "Glob", "value": "a*"}]}, Asked(headers={b"x-team": "ab"}), True),
        ({"headers": [{"name": "a", "value": "1"}, {"name": "b", "value": "2"}]}, Asked(headers={b"a": "1"}), False),
        ({"minContextLength": 100}, Asked(prompt_tokens=100), True),
        ({"minContextLength": 101}, Asked(prompt_tokens=100), False),
        ({"maxContextLength": 100}, Asked(prompt_tokens=101), False),
        ({"minContextLength": 5, "taskTypes": ["Planning"]}, Asked(prompt_tokens=9), False),
    ],
)  # fmt: skip
def test_all_that_is_given_must_hold(match: dict[str, Any], request_: Asked, holds: bool) -> None:
    world = SmallWorld([backend("a"), backend("b")], route(["a"], rules=[{"match": match, "targets": ["b"]}]))
    assert world.names(request_) == (["b"] if holds else ["a"])


def test_the_table_knows_which_headers_are_asked_about() -> None:
    match = {"headers": [{"name": "X-Team", "value": "a"}]}
    world = SmallWorld(
        [backend("a")],
        route(["a"], rules=[{"match": match, "targets": ["a"]}], strategy="Weighted", sticky={"header": "X-User"}),
    )
    assert world.table.headers == {b"x-team", b"x-user"}


def test_states_cover_what_rules_name_once() -> None:
    rules = [
        {"match": {"minContextLength": 1}, "targets": ["b", "a", "absent"]},
        {"match": {"minContextLength": 2}, "targets": ["c", "b"]},
    ]
    world = SmallWorld([backend(n) for n in "abc"], route(["a"], rules=rules))
    states = list(target_states(world.route, world.book, NOW))
    names = [(t.backend if isinstance(t.backend, str) else t.backend.name, b and b.reason) for t, b in states]
    assert names == [("a", None), ("b", None), ("absent", Barred.BACKEND_NOT_FOUND), ("c", None)]


# ---- fitness


def test_nobody_who_could_take_it_is_the_callers_fault() -> None:
    world = SmallWorld([backend("a", model={"capabilities": ["Chat"]})], route(["a"]))
    ordering = world.order(Asked(needs=frozenset((Needed.VISION,))))
    assert not ordering.candidates
    given_up = surrender("chat", [], ordering.excluded, NOW)
    assert (given_up.status, given_up.retry_useless) == (400, True)


def test_an_unfit_target_does_not_hide_that_the_others_are_busy() -> None:
    world = SmallWorld([backend("a", model={"capabilities": ["Chat"]}), backend("b")], route(["a", "b"]))
    busy = Judgement(Verdict.BUSY, Why.RATE_LIMITED, "", 9.0)
    world.machine("b").observe(busy, "m", "r", NOW, waited_since=NOW)
    ordering = world.order(Asked(needs=frozenset((Needed.VISION,))))
    assert surrender("chat", [], ordering.excluded, NOW).status == 429


def test_passing_over_an_equal_or_an_unfit_one_is_no_fallback() -> None:
    targets = [{"backend": "a"}, {"backend": "b"}, {"backend": "c", "priority": 1}]
    world = SmallWorld([backend("a"), backend("b"), backend("c")], route(targets))
    refused = fault(Why.REFUSED)
    world.machine("a").observe(refused, "m", "r", NOW, waited_since=NOW)
    ordering = world.order()
    assert left_behind(ordering, [], ordering.candidates[0].target) is None
    world.machine("b").observe(refused, "m", "r", NOW, waited_since=NOW)
    ordering = world.order()
    assert left_behind(ordering, [], ordering.candidates[0].target) == ("a", "Unhealthy")


def test_fallback_off_still_chooses_among_equals() -> None:
    targets = [{"backend": "a"}, {"backend": "b"}, {"backend": "c", "priority": 1}]
    world = SmallWorld([backend(n) for n in "abc"], route(targets))
    assert {world.order(Asked(seed=n), fallback=False).candidates[0].target.backend.name for n in range(9)} == {
        "a",
        "b",
    }
    world.machine("a").observe(fault(Why.REFUSED), "m", "r", NOW, waited_since=NOW)
    ordering = world.order(fallback=False)
    assert [(c.target.backend.name, c.place) for c in ordering.candidates] == [("b", Place.PRIORITY)]
    assert [(e.backend, e.reason.value) for e in ordering.excluded] == [("c", "FallbackOff"), ("a", "Unhealthy")]
    world.machine("b").observe(fault(Why.REFUSED), "m", "r", NOW, waited_since=NOW)
    assert [c.place for c in world.order(fallback=False).candidates] == [Place.LEAST_BAD]


@pytest.mark.parametrize(
    "strategy", ["Auto", "Weighted", "LeastInFlight", "LowestLatency", "LowestCost", "PrefixAffinity"]
)
def test_each_place_has_its_sentence(strategy: str) -> None:
    world = SmallWorld(
        [backend("p", 2), backend("x", pricing={"inputPerMillionTokens": "1", "outputPerMillionTokens": "2"})],
        route([{"backend": "p", "weight": 3}, "x", {"backend": "x", "priority": 1}], strategy=strategy),
        pods={"p": 2},
    )
    world.busy("p", 2)
    world.answered("x", 250.0)
    ordering = world.order()
    told = {
        (r.candidate.target.backend.name, r.candidate.target.priority): r
        for r in reasons(world.route, ordering, world.book, NOW, Asked())
    }
    assert told["x", 1].sentence == "usable, by its priority"
    words = {
        "Auto": ("weight 3 of 4: 75 %, ", "25 %, 0 in flight, answer after 250 ms, about "),
        "Weighted": ("weight 3 of 4: 75 %, the request's id decides; ", "25 %, the request's id decides; 0 in flight"),
        "LeastInFlight": ("0 in flight, weight 3", "0 in flight"),
        "LowestLatency": ("not measured lately, 0 in flight", "answer after 250 ms"),
        "LowestCost": ("free, 0 in flight", "about 0.000522 a request"),
        "PrefixAffinity": ("by the prompt's beginning, ", "0 in flight of at most 2"),
    }[strategy]
    for name, part in zip("px", words, strict=True):
        assert part in told[name, 0].sentence
    assert sorted(f.in_flight for f in told["p", 0].figures) == [0, 2]
