"""What a request waits for rather than go on: a slot of the same priority, a target that is not ready yet."""

from __future__ import annotations

from typing import Any

from tests.support.running_gateway import external, ollama, route, table

from pointsman.api.objects import LLMBackend
from pointsman.domain.attempts import Tried, next_attempt, surrender
from pointsman.domain.book import HealthBook
from pointsman.domain.candidates import Barred, Ordering, Place, order, target_states
from pointsman.domain.compiling import compile_table
from pointsman.domain.failure import fault
from pointsman.domain.sharing import Crew
from pointsman.domain.verdict import Judgement, Verdict, Why
from pointsman.domain.waiting import Awaited, Wait, worth_waiting

NOW = 1000.0
LOADING = Judgement(Verdict.LOADING, Why.LOADING)
BOOM = Judgement(Verdict.FAILURE, Why.SERVER_ERROR, by_answer=True)


def limited(name: str, in_flight: int = 1, queued: int = 5) -> LLMBackend:
    body = external(name, f"http://{name}.test/v1").spec.to_api()
    limits = {"maxInFlight": in_flight, "maxQueued": queued}
    return LLMBackend.parse({"metadata": {"name": name}, "spec": {**body, "limits": limits}})


class World:
    """Backends `a` and `b` of priority 0 and 1 unless `same`; `full` ones have all the requests that they may."""

    def __init__(self, *backends: LLMBackend, full: str = "", **fallback: Any) -> None:
        names = [b.meta.name for b in backends]
        self.table = table(list(backends), [route(*names, **fallback)])
        self.route = self.table.routes["r"]
        self.book = HealthBook()
        self.book.adopt(self.table, NOW)
        for name in full:
            self.fill(name)

    def fill(self, name: str) -> None:
        machine = self.book.machine(self.table.backends[name].endpoints[0].key)
        assert machine is not None
        while machine.in_flight < machine.limit:
            machine.begin()

    def loading(self, name: str) -> None:
        key = self.table.backends[name].endpoints[0].key
        self.book.observe_answer(key, LOADING, model="m", request="x", now=NOW, waited_since=NOW)

    def order(self) -> Ordering:
        return order(self.route, self.book, NOW)

    def tried(self, index: int, judged: Judgement) -> Tried:
        target = self.route.targets[index]
        return Tried(target, target.backend.endpoints[0], Place.PRIORITY, judged, 1.0)

    def waits(
        self, *tried: Tried, waited: set[tuple[Awaited, int]] | None = None, fallback: bool = True
    ) -> Wait | None:
        ordering = self.order()
        choice = next_attempt(self.route, ordering, tried, fallback=fallback)
        return worth_waiting(self.route, ordering, choice, tried, waited or set(), fallback=fallback)


def what(wait: Wait | None) -> tuple[str, int, list[str]] | None:
    return (wait.awaited.value, wait.rank, [b.name for b in wait.backends]) if wait else None


def free(name: str) -> LLMBackend:
    return external(name, f"http://{name}.test/v1")


def test_a_full_endpoint_is_no_candidate_and_says_why() -> None:
    w = World(limited("a"), free("b"), full="a")
    o = w.order()
    assert [c.target.backend.name for c in o.candidates] == ["b"]
    assert [(e.backend, e.reason) for e in o.excluded] == [("a", Barred.AT_LIMIT)]
    assert "limits.maxInFlight" in o.excluded[0].message
    assert [barred for _, barred in target_states(w.route, w.book, NOW)] == [None, None], "its status is another matter"


def test_a_slot_is_waited_for_once_then_the_next_priority_is_asked() -> None:
    w = World(limited("a"), free("b"), full="a")
    assert what(w.waits()) == ("Slot", 0, ["a"])
    assert w.waits(waited={(Awaited.SLOT, 0)}) is None


def test_nobody_waits_without_a_queue() -> None:
    assert World(limited("a", queued=0), free("b"), full="a").waits() is None


def test_a_free_endpoint_of_the_same_priority_is_better_than_waiting() -> None:
    w = World(limited("a"), free("b"), full="a")
    rows = [{"backend": n, "model": "m", "priority": 0} for n in "ab"]
    spec = {"models": ["chat"], "targets": rows}
    w.table = table([limited("a"), free("b")], [type(route("a")).parse({"metadata": {"name": "r"}, "spec": spec})])
    w.route = w.table.routes["r"]
    assert w.waits() is None


def test_each_priority_has_its_wait() -> None:
    w = World(limited("a"), limited("b"), full="ab")
    assert what(w.waits()) == ("Slot", 0, ["a"])
    assert what(w.waits(waited={(Awaited.SLOT, 0)})) == ("Slot", 2, ["b"])
    assert w.waits(waited={(Awaited.SLOT, 0), (Awaited.SLOT, 2)}) is None


def test_a_fallback_waits_too() -> None:
    w = World(free("a"), limited("b"), full="b")
    assert what(w.waits(w.tried(0, BOOM))) == ("Slot", 2, ["b"])


def test_who_has_no_attempt_left_does_not_wait() -> None:
    w = World(limited("a"), limited("b"), full="ab", maxAttempts=1)
    assert w.waits(w.tried(0, BOOM)) is None
    off = World(limited("a"), limited("b"), full="b")
    assert off.waits(off.tried(0, BOOM), fallback=False) is None


def test_the_least_bad_is_worse_than_one_that_is_only_full() -> None:
    w = World(limited("a"), free("b"), full="a")
    key = w.table.backends["b"].endpoints[0].key
    w.book.observe_answer(key, fault(Why.REFUSED), model="m", request="x", now=NOW, waited_since=NOW)
    assert w.order().candidates[0].place is Place.LEAST_BAD
    assert what(w.waits()) == ("Slot", 0, ["a"])


def test_not_even_the_least_bad_is_asked_beyond_its_limit() -> None:
    w = World(limited("a"), full="a")
    w.loading("a")
    o = w.order()
    assert not o.candidates
    assert [e.reason for e in o.excluded] == [Barred.LOADING]


def test_one_at_a_time_asks_the_least_bad_that_loads() -> None:
    w = World(free("a"))
    w.loading("a")
    assert w.order().candidates[0].place is Place.LEAST_BAD
    machine = w.book.machine(w.table.backends["a"].endpoints[0].key)
    assert machine is not None
    trial = machine.begin(in_spite=True)
    assert not w.order().candidates
    machine.end(trial)
    assert w.order().candidates


def test_when_everything_is_full_the_client_hears_429_and_which_limit() -> None:
    w = World(limited("a"), limited("b"), full="ab")
    given = surrender("chat", (), w.order().excluded, NOW)
    assert given.status == 429
    assert given.retry_after == 1.0
    assert given.message.count("AtLimit: it has as many requests as limits.maxInFlight allows") == 2


def test_use_next_passes_over_what_is_cold() -> None:
    w = World(free("a"), free("b"))
    w.loading("a")
    assert w.waits() is None


def test_hold_waits_for_what_loads() -> None:
    w = World(free("a"), free("b"), whileCold="Hold")
    assert w.waits() is None
    w.loading("a")
    assert what(w.waits()) == ("Warmth", 0, ["a"])
    assert what(w.waits(w.tried(0, LOADING))) == ("Warmth", 0, ["a"])
    assert w.waits(waited={(Awaited.WARMTH, 0)}) is None
    assert w.waits(w.tried(0, BOOM)) is None, "it failed otherwise, too"


def test_hold_waits_for_the_first_pod_and_for_a_model_being_pulled() -> None:
    compiled = table([ollama("a"), free("b")], [route("a", "b", whileCold="Hold")], {"a": []})
    book = HealthBook()
    book.adopt(compiled, NOW)
    o = order(compiled.routes["r"], book, NOW)
    choice = next_attempt(compiled.routes["r"], o, (), fallback=True)
    assert what(worth_waiting(compiled.routes["r"], o, choice, (), (), fallback=True)) == ("Warmth", 0, ["a"])


def test_a_missing_model_is_waited_for_only_where_we_pull_it() -> None:
    missing = Judgement(Verdict.MODEL_MISSING, Why.MODEL_NOT_FOUND)
    for first, waits in ((ollama("a"), ("Warmth", 0, ["a"])), (free("a"), None)):
        compiled = table([first, free("b")], [route("a", "b", whileCold="Hold")], {"a": [1234]})
        book = HealthBook()
        book.adopt(compiled, NOW)
        backend = compiled.backends["a"]
        model, key = backend.models["m"], backend.endpoints[0].key
        book.observe_answer(key, missing, model=model, request="x", now=NOW, waited_since=NOW)
        o = order(compiled.routes["r"], book, NOW)
        choice = next_attempt(compiled.routes["r"], o, (), fallback=True)
        assert what(worth_waiting(compiled.routes["r"], o, choice, (), (), fallback=True)) == waits


def test_hold_does_not_wait_for_a_cold_one_behind_a_warm_one() -> None:
    w = World(free("a"), free("b"), whileCold="Hold")
    w.loading("b")
    assert w.waits() is None


def test_a_limit_divided_by_the_gateways() -> None:
    compiled = compile_table([limited("a", 5)], [route("a")], {}, {}, Crew(2, 0))
    other = compile_table([limited("a", 5)], [route("a")], {}, {}, Crew(2, 1))
    limits = []
    for one in (compiled, other):
        book = HealthBook()
        book.adopt(one, NOW)
        machine = book.machine(one.backends["a"].endpoints[0].key)
        assert machine is not None
        limits.append(machine.limit)
    assert sorted(limits) == [2, 3]


def test_ollama_s_parallel_gives_the_limit() -> None:
    def capacity(**spec: Any) -> int | None:
        models = [{"name": n, "source": f"ollama://{n}:1"} for n in "xyz"]
        body = {"engine": "Ollama", "models": models, **spec}
        return LLMBackend.parse({"metadata": {"name": "o"}, "spec": body}).spec.max_in_flight

    assert capacity() is None
    assert capacity(ollama={"parallel": 4}) == 12
    assert capacity(ollama={"parallel": 4, "maxLoadedModels": 2}) == 8
    assert capacity(ollama={"parallel": 4}, limits={"maxInFlight": 5}) == 5
