"""Whom a slow stream is asked of as well, how many are, and how long a prompt may be read."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.support.running_gateway import external, route, table

from pointsman.api.objects import LLMBackend
from pointsman.domain.attempts import Tried
from pointsman.domain.book import HealthBook
from pointsman.domain.candidates import Place, order
from pointsman.domain.failure import fault
from pointsman.domain.hedging import allowance, beside
from pointsman.domain.patience import GROWTH_BYTES, SHORT_BYTES, grown
from pointsman.domain.verdict import Judgement, Verdict, Why

NOW = 1000.0
PRICE = {"pricing": {"inputPerMillionTokens": "0.15", "outputPerMillionTokens": "0.60"}}
SLOW = fault(Why.SLOW_FIRST_TOKEN)


def backend(name: str, **spec: Any) -> LLMBackend:
    body = external(name, f"http://{name}.test/v1").spec.to_api()
    return LLMBackend.parse({"metadata": {"name": name}, "spec": {**body, **spec}})


class World:
    def __init__(self, *backends: LLMBackend, **fallback: Any) -> None:
        names = [b.meta.name for b in backends]
        compiled = table(list(backends), [route(*names, **{"firstTokenAfter": "3s", **fallback})])
        self.route = compiled.routes["r"]
        self.book = HealthBook()
        self.book.adopt(compiled, NOW)

    def tried(self, index: int, judged: Judgement) -> Tried:
        target = self.route.targets[index]
        return Tried(target, target.backend.endpoints[0], Place.PRIORITY, judged, 1.0)

    def beside(self, *tried: Tried, slow: int = 0, fallback: bool = True) -> str | None:
        ordering = order(self.route, self.book, NOW, fallback=fallback)
        found = beside(self.route, ordering, tried, self.tried(slow, SLOW), fallback=fallback)
        return found[0].target.backend.name if found else None

    def saw(self, index: int, judged: Judgement) -> None:
        key = self.route.targets[index].backend.endpoints[0].key
        self.book.observe_answer(key, judged, model="m", request="r", now=NOW, waited_since=NOW - 1)


def test_the_next_target_is_asked_beside_a_slow_one() -> None:
    assert World(backend("a"), backend("b"), backend("c")).beside() == "b"


def test_nobody_is_when_the_route_or_the_caller_wants_no_fallback() -> None:
    assert World(backend("a"), backend("b"), mode="None").beside() is None
    assert World(backend("a"), backend("b")).beside(fallback=False) is None


def test_a_hedge_counts_as_an_attempt() -> None:
    assert World(backend("a"), backend("b"), maxAttempts=1).beside() is None


def test_who_failed_this_request_is_not_asked_again() -> None:
    w = World(backend("a"), backend("b"))
    failed = w.tried(0, Judgement(Verdict.FAILURE, Why.SERVER_ERROR, by_answer=True))
    assert w.beside(failed, slow=1) is None


def test_a_target_with_a_price_only_when_that_is_allowed() -> None:
    assert World(backend("a"), backend("b", **PRICE), backend("c")).beside() == "c"
    assert World(backend("a"), backend("b", **PRICE)).beside() is None
    assert World(backend("a"), backend("b", **PRICE), hedgeToPriced=True).beside() == "b"


def test_neither_a_busy_nor_a_full_nor_a_broken_one() -> None:
    w = World(backend("a"), backend("b"), backend("c", limits={"maxInFlight": 1}), backend("d"))
    w.saw(1, Judgement(Verdict.BUSY, Why.RATE_LIMITED))
    machine = w.book.machine(w.route.targets[2].backend.endpoints[0].key)
    assert machine is not None
    machine.begin()
    assert w.beside() == "d"
    w.saw(3, fault(Why.REFUSED))
    assert w.beside() is None


def test_slow_counts_no_failure_but_slows_the_pace() -> None:
    w = World(backend("a"), backend("b"))
    key = w.route.targets[0].backend.endpoints[0].key
    machine = w.book.machine(key)
    assert machine is not None
    machine.succeeded("m", 10.0, NOW - 5, stream=True)
    before = machine.pace_of("m", True, NOW)
    w.book.observe_answer(key, SLOW, model="m", request="r", now=NOW, waited_since=NOW - 3)
    after = machine.pace_of("m", True, NOW)
    assert before is not None
    assert after is not None
    assert after > before
    assert machine.state == "Healthy"


@given(st.integers(0, 100_000))
def test_one_in_twenty_and_one_at_least(in_flight: int) -> None:
    assert allowance(in_flight) == max(1, in_flight // 20)


@given(st.floats(0.01, 600), st.integers(0, 64 * 1024 * 1024))
def test_patience_grows_with_the_prompt_and_never_shrinks(seconds: float, size: int) -> None:
    assert grown(seconds, size) >= seconds
    assert grown(seconds, size + 1) >= grown(seconds, size)
    assert grown(seconds, min(size, SHORT_BYTES - 1)) == seconds
    assert grown(seconds, GROWTH_BYTES) == 2 * seconds
