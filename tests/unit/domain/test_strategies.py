"""Each strategy, as the order that comes of it."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.asked import NOW, Asked, SmallWorld, backend, route

from pointsman.api.route import TaskType
from pointsman.domain.candidates import first_choice
from pointsman.domain.engine_load import EngineLoad
from pointsman.domain.failure import fault
from pointsman.domain.features import seed_of
from pointsman.domain.pace import FRESH_SECONDS
from pointsman.domain.score import WINDOW_SECONDS
from pointsman.domain.strategies import Seat, arranged, first
from pointsman.domain.strategies.prefix_affinity import LOAD_BOUND
from pointsman.domain.verdict import Why

ALL = ("Auto", "Weighted", "LeastInFlight", "LowestLatency", "LowestCost", "PrefixAffinity")
ASKED = 4000
"""Requests of a test about shares: what is promised holds within four standard deviations."""


def asked(n: int, **more: object) -> Asked:
    return Asked(seed=seed_of(b"req-%d" % n), **more)  # type: ignore[arg-type]


def shares(world: SmallWorld, **more: object) -> dict[str, float]:
    """How often each backend is the first."""
    counts = Counter(world.names(asked(n, **more))[0] for n in range(ASKED))
    return {name: count / ASKED for name, count in counts.items()}


def fails(world: SmallWorld, name: str, times: int = 1, at: float = NOW) -> None:
    key = world.table.backends[name].endpoints[0].key
    for n in range(times):
        world.book.observe_answer(key, fault(Why.CUT), model="m", request=f"r{n % 2}", now=at, waited_since=at)


def equals(*names: str, strategy: str = "Auto", **spec: object) -> SmallWorld:
    return SmallWorld([backend(n) for n in names], route(names, strategy=strategy, **spec))


def weighted(strategy: str = "Weighted", /, sticky: object = None, **weights: int) -> SmallWorld:
    targets = [{"backend": n, "weight": w} for n, w in weights.items()]
    more = {"sticky": sticky} if sticky is not None else {}
    return SmallWorld([backend(n) for n in weights], route(targets, strategy=strategy, **more))


def near(part: float) -> object:
    return pytest.approx(part, abs=4 * (part * (1 - part) / ASKED) ** 0.5)


# ---- all


@pytest.mark.parametrize("strategy", ALL)
def test_equals_share_the_requests_evenly(strategy: str) -> None:
    world = equals("a", "b", "c", strategy=strategy)
    counts = Counter(
        world.names(asked(n) if strategy != "PrefixAffinity" else asked(n, prefix=seed_of(b"%d" % n)))[0]
        for n in range(ASKED)
    )
    for name in "abc":
        assert counts[name] / ASKED == near(1 / 3)


@pytest.mark.parametrize("strategy", ALL)
def test_priorities_come_before_every_strategy(strategy: str) -> None:
    targets = [{"backend": n, "priority": p} for n, p in (("a", 1), ("b", 0), ("c", 2))]
    world = SmallWorld([backend(n) for n in "abc"], route(targets, strategy=strategy))
    world.busy("b", 40)
    world.answered("b", 9000.0)
    for n in range(20):
        assert world.names(asked(n)) == ["b", "a", "c"]


@pytest.mark.parametrize("strategy", ALL)
def test_weight_zero_serves_only_when_the_others_cannot(strategy: str) -> None:
    world = weighted(strategy, a=5, b=0, c=5)
    for n in range(50):
        assert world.names(asked(n))[-1] == "b"
    for name in "ac":
        fails(world, name, 5)
        world.machine(name).observe(fault(Why.REFUSED), "m", "r", NOW, waited_since=NOW)
    assert world.names()[0] == "b"


@pytest.mark.parametrize("strategy", ALL)
def test_one_request_gets_one_order(strategy: str) -> None:
    world = weighted(strategy, a=1, b=2, c=3)
    for n in range(50):
        assert world.names(asked(n)) == world.names(asked(n))


# ---- one by one


def test_weighted_keeps_the_shares() -> None:
    assert shares(weighted(a=90, b=10)) == {"a": near(0.9), "b": near(0.1)}
    assert shares(weighted(a=1, b=2, c=7)) == {"a": near(0.1), "b": near(0.2), "c": near(0.7)}


def test_weighted_does_not_heed_the_load() -> None:
    world = weighted(a=1, b=1)
    world.busy("a", 50)
    assert shares(world)["a"] == near(0.5)


def test_who_is_out_gives_its_share_to_the_others_in_proportion() -> None:
    world = weighted(a=50, b=40, c=10)
    before = {n: world.names(asked(n))[0] for n in range(500)}
    world.machine("a").observe(fault(Why.REFUSED), "m", "r", NOW, waited_since=NOW)
    assert shares(world) == {"b": near(0.8), "c": near(0.2)}
    assert all(world.names(asked(n))[0] == was for n, was in before.items() if was != "a"), "the others stay"


def test_sticky_keeps_a_caller_at_its_target() -> None:
    world = weighted("Weighted", {"header": "x-user-id"}, a=50, b=50)
    chosen = {
        user: {world.names(asked(n, headers={b"x-user-id": user}))[0] for n in range(20)}
        for user in map(str, range(200))
    }
    assert all(len(names) == 1 for names in chosen.values())
    counts = Counter(next(iter(names)) for names in chosen.values())
    assert 60 < counts["a"] < 140


def test_sticky_falls_back_on_the_user_and_then_on_chance() -> None:
    world = weighted("Weighted", {"header": "x-user-id"}, a=50, b=50)
    assert len({world.names(asked(n, user="ann"))[0] for n in range(20)}) == 1
    assert len({world.names(asked(n))[0] for n in range(20)}) == 2


def test_sticky_moves_only_the_callers_that_a_new_weight_wants() -> None:
    before, after = (weighted("Weighted", {}, a=100, b=weight) for weight in (10, 30))
    users = [asked(n, user=str(n)) for n in range(1000)]
    moved = [(before.names(u)[0], after.names(u)[0]) for u in users]
    assert ("b", "a") not in moved
    assert 100 < moved.count(("a", "b")) < 200, "from 1/11 to 3/13"


def test_least_in_flight_heeds_load_and_weight() -> None:
    world = weighted("LeastInFlight", a=1, b=4)
    world.busy("b", 2)
    assert world.names()[0] == "b", "3/4 is less than 1"
    world.busy("b", 2)
    assert world.names()[0] == "a"


@pytest.mark.parametrize("strategy", ["LeastInFlight", "Auto"])
def test_what_others_have_at_an_engine_counts_and_ours_is_not_counted_twice(strategy: str) -> None:
    world = equals("a", "b", strategy=strategy)
    a, b = (world.table.backends[n].endpoints[0].key for n in "ab")
    world.busy("b", 2)
    world.book.told(b, EngineLoad(running=2, waiting=0))
    world.book.told(a, EngineLoad(running=1, waiting=3))
    assert world.names()[0] == "b", "2 of ours are less than 4 of others"
    world.book.told(a, EngineLoad(running=0, waiting=0))
    assert world.names()[0] == "a"
    world.book.told(a, EngineLoad(running=9, waiting=0))
    world.book.told(a, None)
    assert world.names()[0] == "a", "who no longer tells is judged by what we have there"


def test_least_in_flight_leaves_who_fails_alone_for_a_while() -> None:
    world = equals("a", "b", strategy="LeastInFlight")
    fails(world, "a")
    world.busy("b", 3)
    assert world.names()[0] == "b"
    assert world.names(now=NOW + WINDOW_SECONDS + 1)[0] == "a"


def test_lowest_latency_takes_the_fastest_and_learns_about_the_unknown() -> None:
    world = equals("a", "b", "c", strategy="LowestLatency")
    world.answered("a", 300.0)
    world.answered("b", 100.0)
    assert world.names() == ["c", "b", "a"], "c is asked to learn"
    world.busy("c", 1)
    assert world.names() == ["b", "a", "c"], "once"
    world.answered("c", 20.0)
    assert world.names() == ["c", "b", "a"]


def test_latency_of_streams_and_of_whole_answers_are_two_things() -> None:
    world = equals("a", "b", strategy="LowestLatency")
    for name, first_token, whole in (("a", 50.0, 3000.0), ("b", 400.0, 900.0)):
        world.answered(name, first_token, stream=True)
        world.answered(name, whole)
    assert world.names(Asked(stream=True)) == ["a", "b"]
    assert world.names(Asked()) == ["b", "a"]


def test_an_old_latency_is_forgotten() -> None:
    world = equals("a", "b", strategy="LowestLatency")
    world.answered("a", 9000.0, at=NOW - FRESH_SECONDS)
    world.answered("b", 10.0)
    assert world.names() == ["a", "b"], "it may be better by now"


def test_who_is_about_as_fast_shares_by_load() -> None:
    world = equals("a", "b", strategy="LowestLatency")
    world.answered("a", 100.0)
    world.answered("b", 115.0)
    world.busy("a", 1)
    assert world.names() == ["b", "a"]


def test_lowest_cost_goes_by_the_price_of_this_request() -> None:
    price = {"inputPerMillionTokens": "0.1", "outputPerMillionTokens": "10"}
    other = {"inputPerMillionTokens": "1", "outputPerMillionTokens": "1"}
    names = ["long", "short", "free"]
    world = SmallWorld(
        [backend("long", model={"pricing": price}), backend("short", pricing=other), backend("free")],
        route(names[:2], strategy="LowestCost"),
    )
    assert world.names(Asked(prompt_tokens=100)) == ["short", "long"]
    assert world.names(Asked(prompt_tokens=100_000)) == ["long", "short"]
    world = SmallWorld(
        [backend("long", model={"pricing": price}), backend("short", pricing=other), backend("free")],
        route(names, strategy="LowestCost"),
    )
    world.busy("free", 100)
    assert world.names()[0] == "free"


def test_saving_money_is_no_reason_to_fail() -> None:
    price = {"inputPerMillionTokens": "5", "outputPerMillionTokens": "5"}
    world = SmallWorld(
        [backend("free"), backend("paid", pricing=price)], route(["free", "paid"], strategy="LowestCost")
    )
    fails(world, "free")
    assert world.names() == ["paid", "free"]
    assert world.names(now=NOW + WINDOW_SECONDS + 1) == ["free", "paid"]


def test_prefix_affinity_sends_one_prefix_to_one_endpoint() -> None:
    world = SmallWorld([backend("p", 4)], route(["p"], strategy="PrefixAffinity"), pods={"p": 4})
    chosen = {
        prefix: {world.order(asked(n, prefix=seed_of(b"%d" % prefix))).candidates[0].endpoints[0].key for n in range(5)}
        for prefix in range(400)
    }
    assert all(len(keys) == 1 for keys in chosen.values())
    counts = Counter(next(iter(keys)) for keys in chosen.values())
    assert min(counts.values()) > 60


def test_prefix_affinity_moves_only_the_prompts_of_who_left() -> None:
    worlds = [SmallWorld([backend("p", n)], route(["p"], strategy="PrefixAffinity"), pods={"p": n}) for n in (4, 3)]
    for n in range(200):
        before, after = (w.order(asked(n, prefix=n)).candidates[0].endpoints[0].key for w in worlds)
        assert before in (after, "p-3")


def test_prefix_affinity_bounds_the_load() -> None:
    """One prompt only: the worst case for affinity."""
    world = SmallWorld([backend("p", 4)], route(["p"], strategy="PrefixAffinity"), pods={"p": 4})
    for n in range(100):
        key = world.order(asked(n, prefix=7)).candidates[0].endpoints[0].key
        world.machine("p", int(key[-1])).begin()
    loads = [world.machine("p", n).in_flight for n in range(4)]
    assert sum(loads) == 100
    assert max(loads) <= LOAD_BOUND * 101 / 4 + 1


def test_auto_shares_by_weight_where_there_are_weights() -> None:
    assert shares(weighted("Auto", a=90, b=10)) == {"a": near(0.9), "b": near(0.1)}


def test_auto_takes_the_share_of_who_fails() -> None:
    world = weighted("Auto", a=50, b=50)
    fails(world, "a")
    assert shares(world)["a"] == near(1 / 6), "a fifth of its weight"


def test_auto_goes_by_load() -> None:
    world = equals("a", "b")
    world.busy("a", 1)
    assert world.names() == ["b", "a"]
    fails(world, "b")
    assert world.names() == ["a", "b"]


def test_auto_loads_a_slow_one_less() -> None:
    world = equals("a", "b", "c")
    for name in "ab":
        world.answered(name, 9000.0)
    world.answered("c", 100.0)
    assert shares(world)["a"] == near(1 / 3), "one answer tells nothing: the model may have been loaded for it"
    for name, ms in (("a", 100.0), ("b", 150.0), ("c", 500.0), ("c", 500.0), ("c", 500.0), ("c", 500.0)):
        world.answered(name, ms)
    assert shares(world) == {"a": near(0.5), "b": near(0.5)}, "half as slow again is noise"
    world.busy("a", 4)
    world.busy("b", 4)
    assert world.names()[0] == "c"


def test_auto_takes_tenths_of_a_second_for_noise() -> None:
    world = equals("a", "b")
    for name, ms in (("a", 1.0), ("b", 99.0)) * 3:
        world.answered(name, ms)
    assert shares(world)["b"] == near(0.5)


def test_auto_prefers_the_cheaper_of_equals() -> None:
    price = {"inputPerMillionTokens": "5", "outputPerMillionTokens": "5"}
    world = SmallWorld([backend("paid", pricing=price), backend("free")], route(["paid", "free"]))
    assert shares(world) == {"free": 1.0}
    world.busy("free", 1)
    assert world.names()[0] == "paid"


def test_auto_sends_a_task_to_who_declares_what_it_wants() -> None:
    coder, thinker = {"capabilities": ["Chat", "Code"]}, {"capabilities": ["Chat", "Reasoning"]}
    world = SmallWorld(
        [backend("coder", model=coder), backend("thinker", model=thinker), backend("plain")],
        route(["coder", "thinker", "plain"]),
    )
    for name in ("coder", "thinker"):
        world.busy(name, 9)
    assert world.names(Asked(task=TaskType.CODE_ANALYSIS))[0] == "coder"
    assert world.names(Asked(task=TaskType.PLANNING))[0] == "thinker"
    assert world.names(Asked(task=TaskType.GENERAL_CHAT))[0] == "plain"
    assert world.names()[0] == "plain"


# ---- the quick way is the slow way


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_the_quick_way_finds_the_head_of_the_order(data: st.DataObject) -> None:
    strategy = data.draw(st.sampled_from(ALL))
    prices = st.sampled_from([None, "1", "2.5"])
    skills = st.sampled_from([{}, {"capabilities": ["Chat", "Code"]}, {"contextLength": 50}])
    names = "abcd"[: data.draw(st.integers(1, 4))]
    pods = {n: data.draw(st.integers(1, 3)) for n in names}
    backends = []
    for n in names:
        price = data.draw(prices)
        pricing = {"pricing": {"inputPerMillionTokens": price, "outputPerMillionTokens": price}} if price else {}
        backends.append(backend(n, pods[n], model=data.draw(skills), **pricing))
    weights = st.sampled_from([None, 0, 1, 7])
    targets = [{"backend": n, **({} if (w := data.draw(weights)) is None else {"weight": w})} for n in names]
    world = SmallWorld(backends, route(targets, strategy=strategy), pods=pods)
    for n in names:
        for e in range(pods[n]):
            world.busy(n, data.draw(st.integers(0, 3)), e)
            if data.draw(st.booleans()):
                world.answered(n, data.draw(st.sampled_from([10.0, 30.0, 900.0])), endpoint=e)
        if data.draw(st.integers(0, 3)) == 0:
            fails(world, n, data.draw(st.integers(1, 2)))
    request = asked(
        data.draw(st.integers(0, 1000)),
        task=data.draw(st.sampled_from([None, TaskType.CODE_GENERATION])),
        prompt_tokens=data.draw(st.sampled_from([10, 100])),
        prefix=data.draw(st.integers(0, 1 << 64)),
        user=data.draw(st.sampled_from([None, "ann"])),
    )
    tier = world.route.tiers[0]
    seats = tuple(
        Seat(t, e, world.machine(t.backend.name, n)) for t in tier.targets for n, e in enumerate(t.backend.endpoints)
    )
    quick = first_choice(tier, seats, request, NOW)
    candidates = world.order(request).candidates
    if quick is None:
        assert tier.choosy or not all(s.machine.clear for s in seats)
        return
    assert (quick.target, quick.endpoint) == (candidates[0].target, candidates[0].endpoints[0])
    ordered = arranged(tier.strategy, seats, request, NOW)
    assert first(tier.strategy, seats, request, NOW) is ordered[0]
    assert sorted(map(id, ordered)) == sorted(map(id, seats))
    keys = tier.strategy.keys(tuple(ordered), request, NOW)
    assert all(a <= b for a, b in pairwise(keys))
