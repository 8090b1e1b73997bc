"""Who is asked next: failover.md rule 2 as properties, rule 3 as a table."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.running_gateway import external, ollama, route, table

from pointsman.domain.attempts import MAX_DIALS, Tried, all_empty, blameless, next_attempt, surrender
from pointsman.domain.book import HealthBook
from pointsman.domain.candidates import Barred, Candidate, Excluded, Ordering, Place, order
from pointsman.domain.failure import FREE, RETRYABLE, fault
from pointsman.domain.table import Endpoint, Route
from pointsman.domain.verdict import EMPTY, Judgement, Verdict, Why

BOOM = Judgement(Verdict.FAILURE, Why.SERVER_ERROR, by_answer=True)
BUSY = Judgement(Verdict.BUSY, Why.RATE_LIMITED, retry_after=4.0)
DENIED = Judgement(Verdict.DENIED, Why.UNAUTHORIZED)
UNFIT = Judgement(Verdict.UNFIT, Why.UNSUPPORTED)
LOADING = Judgement(Verdict.LOADING, Why.LOADING)
MISSING = Judgement(Verdict.MODEL_MISSING, Why.MODEL_NOT_FOUND)
STALLED = fault(Why.ANSWER_TIMEOUT)
OUTCOMES = [BOOM, BUSY, DENIED, UNFIT, LOADING, MISSING, STALLED, EMPTY, *(fault(w) for w in (*FREE, Why.RESET))]


def world(pods: list[int], attempts: int, mode: str = "Auto") -> tuple[Route, Ordering]:
    """Targets with so many endpoints each."""
    backends = [ollama(f"b{n}") for n in range(len(pods))]
    compiled = table(
        backends,
        [route(*(b.meta.name for b in backends), maxAttempts=attempts, mode=mode)],
        {f"b{n}": list(range(100 * n + 1, 100 * n + 1 + count)) for n, count in enumerate(pods)},
    )
    book = HealthBook()
    book.adopt(compiled, 0.0)
    r = compiled.routes["r"]
    return r, order(r, book, 0.0, fallback=True)


def walk(r: Route, o: Ordering, outcomes: list[Judgement], fallback: bool = True) -> list[Tried]:
    tried: list[Tried] = []
    for judged in outcomes:
        choice = next_attempt(r, o, tried, fallback=fallback)
        if choice is None:
            break
        candidate, endpoint = choice
        tried.append(Tried(candidate.target, endpoint, candidate.place, judged, 1.0))
    return tried


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=5),
    st.integers(1, 6),
    st.lists(st.sampled_from(OUTCOMES), min_size=40, max_size=40),
)
def test_rule_two_on_any_walk(pods: list[int], attempts: int, outcomes: list[Judgement]) -> None:
    r, o = world(pods, attempts)
    tried = walk(r, o, outcomes)
    assert len(tried) < 40, "every walk ends"
    spent = [t for t in tried if t.costs]
    assert len(spent) <= attempts
    assert len(tried) - len(spent) <= MAX_DIALS
    seen: list[tuple[int, str]] = []
    for n, t in enumerate(tried):
        here = (t.target.index, t.endpoint.key)
        if here in seen:
            assert seen.count(here) == 1, "once more at most"
            last = [x for x in tried[:n] if (x.target.index, x.endpoint.key) == here][-1]
            assert last.judged.why in RETRYABLE
            closed = {x.target.index for x in tried[:n] if x.judged.verdict in (Verdict.UNFIT, Verdict.DENIED)}
            fresh = [
                e for c in o.candidates if c.target.index not in closed for e in c.endpoints
                if (c.target.index, e.key) not in seen
            ]  # fmt: skip
            assert not fresh, "nobody else was left"
        seen.append(here)
        before = [x for x in tried[:n] if x.costs and x.target.index == t.target.index]
        if len(before) >= 2:
            asked = {x.target.index for x in tried[:n]}
            assert len(asked | {t.target.index}) == len(pods), "two per target while another is left"
        if t.judged.verdict in (Verdict.UNFIT, Verdict.DENIED):
            assert t.target.index not in {x.target.index for x in tried[n + 1 :]}
    if attempts > 1 and len(pods) > 1 and len(spent) == attempts and all(t.costs for t in tried):
        assert spent[-1].target.backend.name not in {t.target.backend.name for t in spent[:-1]} or len(
            {t.target.index for t in spent}
        ) == len(pods), "the last attempt is for a backend that was not asked"


def test_refused_dials_end_at_sixteen() -> None:
    r, o = world([40, 1], 1)
    tried = walk(r, o, [fault(Why.REFUSED)] * 60)
    assert len(tried) == MAX_DIALS


@pytest.mark.parametrize(("judged", "tries"), [(BOOM, 1), (BUSY, 1), (fault(Why.REFUSED), 3)])
def test_fallback_off_moves_on_only_from_a_refused_dial(judged: Judgement, tries: int) -> None:
    r, o = world([3, 1], 5, "None")
    first = [c for c in o.candidates if c.target.index == 0]
    assert len(walk(r, Ordering(tuple(first), ()), [judged] * 9)) == tries


@pytest.mark.parametrize("judged", [Judgement(Verdict.CALLER, Why.BAD_REQUEST), fault(Why.CLIENT_GONE)])
def test_final_verdicts_end_the_request(judged: Judgement) -> None:
    r, o = world([2, 2], 5)
    assert len(walk(r, o, [judged] * 9)) == 1


def test_nothing_to_ask() -> None:
    r, _ = world([1], 3)
    assert next_attempt(r, Ordering((), ()), [], fallback=True) is None


def tried(*judged: Judgement) -> list[Tried]:
    _, o = world([1] * len(judged), 9)
    return [Tried(c.target, c.endpoints[0], c.place, j, 12.3) for c, j in zip(o.candidates, judged, strict=True)]


@pytest.mark.parametrize(
    ("judged", "status", "retry_after"),
    [
        ([BUSY, BUSY], 429, 4.0),
        ([BUSY, BOOM], 502, None),
        ([LOADING, LOADING], 503, 5.0),
        ([LOADING, DENIED], 503, 5.0),
        ([DENIED, MISSING], 503, None),
        ([STALLED, BOOM], 504, None),
        ([BOOM, fault(Why.REFUSED)], 502, None),
        ([fault(Why.TOTAL_TIMEOUT)], 504, None),
        ([UNFIT, BOOM], 502, None),
    ],
)
def test_what_the_client_sees(judged: list[Judgement], status: int, retry_after: float | None) -> None:
    given_up = surrender("chat", tried(*judged), [], 0.0)
    assert (given_up.status, given_up.retry_after) == (status, retry_after)
    lines = given_up.message.splitlines()
    assert len(lines) == 1 + len(judged)
    assert lines[1].startswith(f"- b0 (m): {judged[0].verdict.value}, {judged[0].why.value}: ")
    assert given_up.retry_useless == (judged == [DENIED, MISSING])


def test_saturated_alone_is_429_with_what_is_left() -> None:
    _, o = world([1], 3)
    shown = [Excluded(o.candidates[0].target, Barred.SATURATED, "it is busy", 30.0)]
    given_up = surrender("chat", [], shown, 10.0)
    assert (given_up.status, given_up.retry_after) == (429, 20.0)
    assert surrender("chat", [], [], 0.0).status == 503


def test_empty_only_when_all_are() -> None:
    assert all_empty(tried(EMPTY, EMPTY))
    assert not all_empty(tried(EMPTY, BOOM))
    assert not all_empty([])


def test_blame_needs_two_endpoints_and_one_reason() -> None:
    def keys(endpoints: list[Endpoint]) -> int:
        return len(endpoints)

    assert keys(blameless(tried(BOOM, BOOM))) == 2
    assert keys(blameless(tried(BOOM, EMPTY))) == 0
    assert keys(blameless(tried(fault(Why.RESET), fault(Why.RESET)))) == 0
    assert external("x", "http://x.test/v1").meta.name == "x"


def test_who_came_back_is_asked_although_the_least_bad_was() -> None:
    r, o = world([1, 1], 3)
    first, second = o.candidates
    worst = Tried(first.target, first.endpoints[0], Place.LEAST_BAD, BOOM, 1.0)
    assert next_attempt(r, Ordering((second,), ()), [worst], fallback=True) == (second, second.endpoints[0])
    bad = Candidate(second.target, second.endpoints, Place.LEAST_BAD)
    assert next_attempt(r, Ordering((bad,), ()), [worst], fallback=True) is None, "one attempt goes to the least bad"
