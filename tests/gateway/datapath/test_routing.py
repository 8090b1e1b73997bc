"""Which of several gets a request: rules, weights, names, tasks, needs; and that explain says so beforehand."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from tests.support.asked import route
from tests.support.raw_client import chat, chat_body, chat_request, connected
from tests.support.running_gateway import Running, gateway, table
from tests.support.simulated import Gate, Simulated, simulated

from pointsman.api.objects import ModelRoute
from pointsman.dialects.openai_operations import CHAT
from pointsman.domain.verdict import Judgement, Verdict, Why
from pointsman.gateway.explaining import explain
from pointsman.simulator.behaviour import answers, says
from pointsman.simulator.connection import Connection, Request

SERVED = "x-pointsman-backend"
IMAGE = [
    {"type": "text", "text": "what is it?"},
    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}},
]
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {}}}]


def model(**traits: Any) -> dict[str, Any]:
    return {"models": [{"name": "m", **traits}]}


class Clock:
    """The time, which can be held."""

    def __init__(self) -> None:
        self.held: float | None = None

    def __call__(self) -> float:
        return time.monotonic() if self.held is None else self.held


@asynccontextmanager
async def world(
    *routes: ModelRoute,
    scripts: dict[str, Any] | None = None,
    clock: Callable[[], float] = time.monotonic,
    **specs: dict[str, Any],
) -> AsyncIterator[tuple[Running, dict[str, Simulated]]]:
    """A gateway before backends of these names, each with more of its spec."""
    async with AsyncExitStack() as stack:
        backends = {n: await stack.enter_async_context(simulated(n, *(scripts or {}).get(n, ()))) for n in specs}
        compiled = table([b.backend(**specs[n]) for n, b in backends.items()], list(routes))
        yield await stack.enter_async_context(gateway(compiled, clock=clock)), backends


async def served(g: Running, *headers: str, **request: Any) -> str:
    got = await chat(g.port, *headers, **request)
    assert got.status == 200, got.body
    return got.headers[SERVED]


async def shares(g: Running, requests: int, *headers: str) -> Counter[str]:
    counts: Counter[str] = Counter()
    async with connected(g.port) as client:
        for _ in range(requests):
            await client.send(chat_request(chat_body(), *headers))
            counts[(await client.receive()).headers[SERVED]] += 1
    return counts


# ---- rules


async def test_the_first_rule_that_matches_decides() -> None:
    rules = [
        {"match": {"headers": [{"name": "X-Team", "value": "a"}]}, "targets": ["team"]},
        {"match": {"headers": [{"name": "x-tier", "type": "Glob", "value": "gold*"}]}, "targets": ["gold"]},
        {"match": {"taskTypes": ["CodeGeneration", "CodeAnalysis"]}, "targets": ["code"]},
        {"match": {"capabilities": ["Vision"]}, "targets": ["eyes"]},
        {"match": {"capabilities": ["Tools"]}, "targets": ["hands"]},
        {"match": {"minContextLength": 1000, "maxContextLength": 2000}, "targets": ["long"]},
    ]
    names = {key: {} for key in ("team", "gold", "code", "eyes", "hands", "long", "rest")}
    async with world(route(["rest"], rules=rules), **names) as (g, backends):
        assert await served(g) == "rest"
        assert await served(g, "x-team: a") == "team"
        assert await served(g, "X-TEAM: a", "x-tier: gold") == "team", "the first, not the best"
        assert await served(g, "x-team: A") == "rest", "values keep their case"
        assert await served(g, "x-tier: golden retriever") == "gold"
        assert await served(g, "x-tier: silver") == "rest"
        assert await served(g, task_type="code_analysis") == "code"
        assert await served(g, "x-pointsman-task-type: code_generation") == "code"
        assert await served(g, task_type="planning") == "rest"
        assert await served(g, messages=[{"role": "user", "content": IMAGE}]) == "eyes"
        assert await served(g, tools=TOOLS) == "hands"
        assert await served(g, tools=[]) == "rest"
        for words, who in ((500, "rest"), (1500, "long"), (2500, "rest")):
            assert await served(g, messages=[{"role": "user", "content": "wor " * words}]) == who
        assert "task_type" not in backends["code"].seen[0].json, "it is ours, no backend knows it"


async def test_a_rule_falls_back_within_its_own_targets() -> None:
    rules = [
        {
            "match": {"capabilities": ["Tools"]},
            "targets": [{"backend": "a"}, {"backend": "b", "priority": 1}],
        }
    ]
    scripts = {"a": [answers(500)], "b": [answers(500)]}
    async with world(route(["rest"], rules=rules), scripts=scripts, a={}, b={}, rest={}) as (g, backends):
        got = await chat(g.port, tools=TOOLS)
        assert got.status == 502
        assert [a.backend for a in g.meter.attempts] == ["a", "b", "a"], "never the route's other targets"
        assert not backends["rest"].seen


async def test_rules_follow_a_reload_on_connections_that_are_open() -> None:
    def by(header: str) -> ModelRoute:
        match = {"headers": [{"name": header, "type": "Glob", "value": "*"}]}
        return route(["rest"], rules=[{"match": match, "targets": ["team"]}])

    async with world(by("x-one"), team={}, rest={}) as (g, backends), connected(g.port) as client:
        for header, who in (("x-one", "team"), ("x-two", "rest")):
            await client.send(chat_request(chat_body(), f"{header}: 1"))
            assert (await client.receive()).headers[SERVED] == who
        g.state.set_table(table([b.backend() for b in backends.values()], [by("x-two")]))
        for header, who in (("x-one", "rest"), ("x-two", "team")):
            await client.send(chat_request(chat_body(), f"{header}: 1"))
            assert (await client.receive()).headers[SERVED] == who


# ---- shares


@pytest.mark.parametrize("strategy", ["Auto", "Weighted"])
async def test_weights_are_the_shares(strategy: str) -> None:
    targets = [{"backend": "a", "weight": 80}, {"backend": "b", "weight": 20}, {"backend": "c", "weight": 0}]
    async with world(route(targets, strategy=strategy), a={}, b={}, c={}) as (g, _):
        counts = await shares(g, 1000)
        assert counts["c"] == 0
        assert abs(counts["b"] - 200) < 4 * (1000 * 0.2 * 0.8) ** 0.5


async def test_targets_of_one_priority_share_without_weights() -> None:
    async with world(route(["a", "b"]), a={}, b={}) as (g, _):
        counts = await shares(g, 400)
        assert abs(counts["a"] - 200) < 4 * (400 * 0.25) ** 0.5
        assert not g.meter.fallbacks, "choosing among equals is no fallback"


async def test_weight_zero_is_a_fallback() -> None:
    targets = [{"backend": "a"}, {"backend": "b", "weight": 0}]
    async with world(route(targets), scripts={"a": [answers(500)]}, a={}, b={}) as (g, _):
        assert await served(g) == "b"
        assert g.meter.fallbacks == [("a", "b", "ServerError")]


async def test_sticky_callers_stay() -> None:
    targets = [{"backend": "a", "weight": 50}, {"backend": "b", "weight": 50}]
    spec = route(targets, strategy="Weighted", sticky={"header": "x-user-id"})
    async with world(spec, a={}, b={}) as (g, _):
        first = {n: await served(g, f"x-user-id: user-{n}") for n in range(30)}
        assert set(first.values()) == {"a", "b"}
        for n, who in first.items():
            assert await served(g, f"x-user-id: user-{n}") == who
            assert await served(g, user=f"user-{n}") == who, "by the body's user where the header is missing"


async def test_least_in_flight_asks_who_has_less_to_do() -> None:
    gate = Gate()
    spec = route(["a", "b"], strategy="LeastInFlight")
    async with world(spec, scripts={"a": [gate], "b": [gate]}, a={}, b={}) as (g, backends), AsyncExitStack() as stack:
        for n in range(1, 11):
            for _ in range(2):
                client = await stack.enter_async_context(connected(g.port))
                await client.send(chat_request(chat_body()))
            for backend in backends.values():
                await backend.until(lambda: backend.now == n)  # noqa: B023
        gate.let(20)


async def test_one_conversation_stays_at_one_endpoint() -> None:
    async with world(route(["a", "b", "c"], strategy="PrefixAffinity"), a={}, b={}, c={}) as (g, _):
        homes = set()
        for n in range(48):
            history = [{"role": "system", "content": "be kind"}, {"role": "user", "content": f"question {n}"}]
            home = await served(g, messages=history)
            homes.add(home)
            for turn in range(2):
                history += [{"role": "assistant", "content": f"answer {turn}"}, {"role": "user", "content": "more"}]
                assert await served(g, messages=history) == home
        assert len(homes) == 3


async def test_lowest_latency_leaves_the_slow_one() -> None:
    async def slow(connection: Connection, request: Request) -> None:
        await asyncio.sleep(0.5)
        await says(connection, request)

    async with world(route(["a", "b"], strategy="LowestLatency"), scripts={"a": [slow]}, a={}, b={}) as (g, backends):
        for _ in range(10):
            await served(g)
        assert len(backends["a"].seen) == 1, "asked once, to learn"


async def test_lowest_cost_takes_the_cheapest_that_can() -> None:
    def priced(price: str) -> dict[str, Any]:
        return {"pricing": {"inputPerMillionTokens": price, "outputPerMillionTokens": price}}

    spec = route(["dear", "cheap"], strategy="LowestCost")
    async with world(spec, scripts={"cheap": [answers(500)]}, dear=priced("10"), cheap=priced("0.5")) as (g, _):
        assert await served(g) == "dear"
        assert [a.backend for a in g.meter.attempts] == ["cheap", "dear"]


# ---- names


async def test_the_most_specific_name_answers() -> None:
    routes = [
        route(["all"], "all", models=["*"]),
        route(["gpt"], "gpt", models=["gpt-4o*"]),
        route(["mini"], "mini", models=["gpt-4o-mini*"]),
        route(["exact"], "exact", models=["gpt-4o-mini"]),
    ]
    async with world(*routes, all={}, gpt={}, mini={}, exact={}) as (g, _):
        for name, who in (
            ("gpt-4o-mini", "exact"), ("gpt-4o-mini-2024", "mini"), ("gpt-4o", "gpt"), ("llama", "all"),
        ):  # fmt: skip
            assert await served(g, model=name) == who
        assert [(r.model, r.asked) for r in g.meter.requests][1] == ("gpt-4o-mini*", "gpt-4o-mini-2024"), (
            "a label is bounded"
        )
        async with connected(g.port) as client:
            await client.send(b"GET /v1/models HTTP/1.1\r\nhost: g\r\n\r\n")
            listed = (await client.receive()).json
            assert [m["id"] for m in listed["data"]] == ["gpt-4o-mini"]
            await client.send(b"GET /v1/models/gpt-4o HTTP/1.1\r\nhost: g\r\n\r\n")
            assert (await client.receive()).json["id"] == "gpt-4o"


async def test_names_made_up_by_clients_take_no_memory() -> None:
    async with world(route(["a"], models=["*"]), a={}) as (g, _):
        for n in range(5000):
            assert g.server.path.roster.entry(f"name-{n}") is not None
        assert len(g.server.path.roster._entries) <= 4096


# ---- what a request needs


async def test_a_request_goes_to_who_can_take_it() -> None:
    specs = {
        "plain": model(capabilities=["Chat"]),
        "eyes": model(capabilities=["Vision"]),
        "hands": model(capabilities=["Tools", "Code"]),
        "vectors": model(capabilities=["Embeddings"]),
    }
    targets = [{"backend": n, "priority": p} for p, n in enumerate(("vectors", "plain", "eyes", "hands"))]
    async with world(route(targets), **specs) as (g, _):
        assert await served(g) == "plain"
        assert await served(g, messages=[{"role": "user", "content": IMAGE}]) == "eyes"
        assert await served(g, tools=TOOLS) == "hands"
        assert not g.meter.fallbacks, "passing over who cannot is no fallback"
        got = await chat(g.port, tools=TOOLS, messages=[{"role": "user", "content": IMAGE}])
        assert got.status == 400
        assert got.headers["x-should-retry"] == "false"
        assert "eyes (m): not asked, Unfit: the request needs Tools, which its capabilities do not have" in got.message


async def test_a_prompt_that_seems_too_long_goes_elsewhere_but_is_never_refused_for_it() -> None:
    long = [{"role": "user", "content": "wor " * 2000}]
    targets = [{"backend": "small"}, {"backend": "big", "priority": 1}]
    async with world(route(targets), small=model(contextLength=1000), big=model(contextLength=100_000)) as (
        g,
        backends,
    ):
        assert await served(g) == "small"
        assert await served(g, messages=long) == "big"
        await backends["big"].refuse()
        assert await served(g, messages=long) == "small", "the estimate may be wrong"


async def test_auto_is_a_name_like_any_other() -> None:
    specs = {
        "coder": model(capabilities=["Chat", "Code"]),
        "thinker": {**model(capabilities=["Chat", "Reasoning"]), "pricing": {
            "inputPerMillionTokens": "3", "outputPerMillionTokens": "9"}},
        "talker": model(capabilities=["Chat"]),
    }  # fmt: skip
    async with world(route(list(specs), models=["auto"]), **specs) as (g, _):
        for task, who in (
            ("code_generation", {"coder"}), ("code_analysis", {"coder"}), ("reasoning", {"thinker"}),
            ("planning", {"thinker"}), ("general_chat", {"coder", "talker"}), ("text_generation", {"coder", "talker"}),
        ):  # fmt: skip
            seen = {await served(g, model="auto", task_type=task) for _ in range(30)}
            assert seen == who, task
    async with world(route(["a"]), a={}) as (g, _):
        assert (await chat(g.port, model="auto")).status == 404


@pytest.mark.parametrize("header", [True, False])
async def test_an_unknown_task_is_refused(header: bool) -> None:
    async with world(route(["a"]), a={}) as (g, backends):
        if header:
            got = await chat(g.port, "x-pointsman-task-type: poetry")
        else:
            got = await chat(g.port, task_type="poetry")
        assert got.status == 400
        assert got.message.startswith(
            "task_type must be one of code_generation, code_analysis, reasoning, general_chat"
        )
        assert got.json["error"]["param"] == "task_type"
        assert not backends["a"].seen


# ---- explain


async def test_explain_says_beforehand_who_is_asked() -> None:
    """Random routes, states and requests: the order that explain gives is the one that is walked. In between no time
    goes by, for who rests may be back a moment later."""
    random_ = random.Random(7)
    names = "abcde"
    specs = {
        "a": model(), "b": model(capabilities=["Chat", "Code"]), "c": model(contextLength=400),
        "d": {**model(), "pricing": {"inputPerMillionTokens": "1", "outputPerMillionTokens": "2"}},
        "e": model(capabilities=["Chat", "Tools"]),
    }  # fmt: skip
    clock = Clock()
    async with world(route(["a"]), clock=clock, **specs) as (g, backends):
        for number in range(150):
            strategy = random_.choice(
                ["Auto", "Weighted", "LeastInFlight", "LowestLatency", "LowestCost", "PrefixAffinity"]
            )
            g.state.set_table(
                table([b.backend(**specs[n]) for n, b in backends.items()], [_random_route(random_, names, strategy)])
            )
            for name in names:
                backends[name].script = (answers(500),) if random_.random() < 0.2 else (says,)
                if random_.random() < 0.1:
                    _trouble(g, name, random_)
            headers = {b"x-request-id": b"r-%d" % number}
            if random_.random() < 0.5:
                headers[b"x-team"] = random_.choice([b"a", b"b"])
            more: dict[str, Any] = {"messages": [{"role": "user", "content": "wor " * random_.choice([2, 900])}]}
            if random_.random() < 0.3:
                more["tools"] = TOOLS
            if random_.random() < 0.3:
                more["task_type"] = random_.choice(["code_generation", "planning"])
            body = chat_body(stream=random_.random() < 0.5, **more)
            clock.held = time.monotonic()
            found = explain(g.state, CHAT, body, headers)
            g.meter.attempts.clear()
            async with connected(g.port) as client:
                lines = [f"{k.decode()}: {v.decode()}" for k, v in headers.items()]
                await client.send(chat_request(body, *lines))
                got = await client.receive()
            clock.held = None
            asked = list(dict.fromkeys(a.backend for a in g.meter.attempts))
            expected = list(dict.fromkeys(c["backend"] for c in found["candidates"]))
            assert asked == expected[: len(asked)], (number, strategy, found)
            assert bool(asked) == bool(expected), (number, found)
            assert got.headers["x-request-id"] == found["requestId"]


def _random_route(random_: random.Random, names: str, strategy: str) -> ModelRoute:
    def targets() -> list[dict[str, Any]]:
        out = []
        for name in random_.sample(names, random_.randint(1, len(names))):
            target: dict[str, Any] = {"backend": name, "priority": random_.choice([0, 0, 1])}
            if random_.random() < 0.3:
                target["weight"] = random_.choice([0, 1, 5])
            out.append(target)
        return out

    rules = [
        {"match": match, "targets": targets()}
        for match in ({"headers": [{"name": "x-team", "value": "a"}]}, {"capabilities": ["Tools"]})
        if random_.random() < 0.4
    ]
    return route(targets(), rules=rules, strategy=strategy, fallback={"maxAttempts": 5})


def _trouble(g: Running, name: str, random_: random.Random) -> None:
    endpoint = g.state.table.backends[name].endpoints[0]
    judged = random_.choice(
        [Judgement(Verdict.BUSY, Why.RATE_LIMITED), Judgement(Verdict.DENIED, Why.UNAUTHORIZED),
         Judgement(Verdict.MODEL_MISSING, Why.MODEL_NOT_FOUND), Judgement(Verdict.LOADING, Why.LOADING)]
    )  # fmt: skip
    now = g.state.clock()
    g.state.health.observe_answer(endpoint.key, judged, model="m", request="x", now=now, waited_since=now)
