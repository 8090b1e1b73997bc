"""Limits per endpoint: never exceeded, waited for in turn, then passed by."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

from tests.support.engine import until
from tests.support.raw_client import Got, chat, chat_body, chat_request, connected
from tests.support.running_gateway import Running, gateway, route, table
from tests.support.simulated import Gate, simulated

from pointsman.api.objects import ModelRoute
from pointsman.dialects.openai_operations import CHAT
from pointsman.domain.compiling import compile_table
from pointsman.domain.sharing import Crew
from pointsman.gateway.explaining import explain
from pointsman.gateway.insight.metrics import GatewayMeter, registry_of
from pointsman.gateway.sources.source import SourceStatus
from pointsman.simulator.behaviour import Pause, Words, answers, streams
from pointsman.simulator.openai_bytes import DONE, FINISH, ROLE, error

GAUGES = ("pointsman_in_flight", "pointsman_in_flight_limit", "pointsman_queued")
FAILS = answers(500, error("boom"))


def limits(most: int, queued: int = 64, timeout: str = "60s") -> dict[str, Any]:
    return {"limits": {"maxInFlight": most, "maxQueued": queued, "queueTimeout": timeout}}


async def waiting(running: Running, number: int) -> None:
    """Until so many requests wait for a slot."""
    await until(lambda: len(running.state.waiting) == number)


def named(name: str, **timeouts: str) -> ModelRoute:
    """A route of its own to backend `a`."""
    spec = route("a", models=(name,), timeouts=timeouts).spec.to_api()
    return ModelRoute.parse({"metadata": {"name": name}, "spec": spec})


def ask(running: Running, number: int, **how: Any) -> list[asyncio.Task[Got]]:
    return [asyncio.create_task(chat(running.port, **how)) for _ in range(number)]


async def test_the_limit_holds_exactly_under_load() -> None:
    jitter = random.Random(4)
    async with simulated("a") as a, simulated("b") as b:
        for one in (a, b):
            one.script = [streams(Pause(0.03 * jitter.random()), ROLE, Words(), FINISH, DONE) for _ in range(400)]
        compiled = table(
            [a.backend(**limits(7, 500)), b.backend(**limits(5, 500))], [route("a", "b", timeouts={"total": "100s"})]
        )
        async with gateway(compiled) as g:
            got = await asyncio.gather(*ask(g, 300, stream=True))
            assert {x.status for x in got} == {200}
            assert a.most == 7
            assert b.most <= 5
            assert g.machine("a").in_flight == g.machine("b").in_flight == 0
            assert not len(g.state.waiting)


async def test_a_free_slot_of_the_same_priority_is_taken_first() -> None:
    gate = Gate()
    async with simulated("a", gate) as a, simulated("b", gate) as b:
        rows = [{"backend": n, "model": "m", "priority": 0} for n in "ab"]
        spec = {"models": ["chat"], "targets": rows, "timeouts": {"total": "60s"}}
        both = ModelRoute.parse({"metadata": {"name": "r"}, "spec": spec})
        async with gateway(table([a.backend(**limits(1)), b.backend(**limits(1))], [both])) as g:
            tasks = ask(g, 2)
            await asyncio.gather(a.until(lambda: a.now == 1), b.until(lambda: b.now == 1))
            third = ask(g, 1)
            await waiting(g, 1)
            gate.let(3)
            got = await asyncio.gather(*tasks, *third)
    assert {x.status for x in got} == {200}


async def test_who_waits_too_long_moves_on_to_the_next_priority() -> None:
    gate = Gate()
    async with simulated("a", gate) as a, simulated("b") as b:
        compiled = table([a.backend(**limits(1, timeout="500ms")), b.backend()], [route("a", "b")])
        async with gateway(compiled) as g:
            first = ask(g, 1)
            await a.until(lambda: a.now == 1)
            began = time.monotonic()
            spilled = await chat(g.port)
            took_ms = (time.monotonic() - began) * 1000
            gate.let()
            await asyncio.gather(*first)
            assert spilled.headers["x-pointsman-backend"] == "b"
            assert g.meter.fallbacks == [("a", "b", "AtLimit")]
            record = g.meter.requests[0]
            assert record.queued_ms is not None
            assert 490 < record.queued_ms < took_ms
            assert record.overhead_us < record.queued_ms * 1000, "waiting is no overhead"
    assert a.most == 1


async def test_a_slot_goes_to_who_waits_not_to_who_comes() -> None:
    gate = Gate()
    async with (
        simulated("a", gate) as a,
        gateway(table([a.backend(**limits(1))], [route("a")])) as g,
    ):
        first = ask(g, 1)
        await a.until(lambda: a.now == 1)
        second = ask(g, 1, marker="second")
        await waiting(g, 1)
        third = ask(g, 1, marker="third")
        await waiting(g, 2)
        gate.let(3)
        await asyncio.gather(*first, *second, *third)
    assert [r.json.get("marker") for r in a.seen] == [None, "second", "third"]
    assert a.most == 1


async def test_consumers_take_turns() -> None:
    gate = Gate()
    async with (
        simulated("a", gate) as a,
        gateway(table([a.backend(**limits(1))], [route("a")])) as g,
    ):

        async def from_host(host: str, marker: str) -> Got:
            reader, writer = await asyncio.open_connection("127.0.0.1", g.port, local_addr=(host, 0))
            writer.write(chat_request(chat_body(marker=marker), "connection: close"))
            try:
                head = await reader.readuntil(b"\r\n\r\n")
                return Got(int(head.split()[1]), {}, await reader.read())
            finally:
                writer.close()

        tasks = ask(g, 1)
        await a.until(lambda: a.now == 1)
        for n, host in enumerate(["127.0.0.2"] * 4 + ["127.0.0.3"] * 2, 1):
            tasks.append(asyncio.create_task(from_host(host, f"{host[-1]}.{n}")))
            await waiting(g, n)
        gate.let(7)
        await asyncio.gather(*tasks)
    assert [r.json.get("marker") for r in a.seen][1:] == ["2.1", "3.5", "2.2", "3.6", "2.3", "2.4"]


async def test_when_all_is_full_the_client_hears_429_at_once() -> None:
    gate = Gate()
    async with (
        simulated("a", gate) as a,
        gateway(table([a.backend(**limits(1, queued=1))], [route("a")])) as g,
    ):
        first = ask(g, 1)
        await a.until(lambda: a.now == 1)
        second = ask(g, 1)
        await waiting(g, 1)
        got = await chat(g.port)
        gate.let(2)
        await asyncio.gather(*first, *second)
        assert got.status == 429
        assert int(got.headers["retry-after"]) >= 1
        assert got.json["error"]["code"] == "all_backends_busy"
        assert "limits.maxInFlight" in got.message
        assert g.machine("a").state != "Unhealthy"


async def test_without_a_queue_the_next_priority_is_asked_at_once() -> None:
    gate = Gate()
    async with (
        simulated("a", gate) as a,
        simulated("b") as b,
        gateway(table([a.backend(**limits(1, queued=0)), b.backend()], [route("a", "b")])) as g,
    ):
        first = ask(g, 1)
        await a.until(lambda: a.now == 1)
        got = await chat(g.port)
        gate.let()
        await asyncio.gather(*first)
    assert got.headers["x-pointsman-backend"] == "b"


async def test_a_client_that_leaves_leaves_the_queue_at_once() -> None:
    gate = Gate()
    async with (
        simulated("a", gate) as a,
        gateway(table([a.backend(**limits(1))], [route("a")])) as g,
    ):
        first = ask(g, 1)
        await a.until(lambda: a.now == 1)
        async with connected(g.port) as client:
            await client.send(chat_request(chat_body(marker="gone")))
            await waiting(g, 1)
        await waiting(g, 0)
        later = ask(g, 1)
        await waiting(g, 1)
        gate.let(2)
        got = await asyncio.gather(*first, *later)
        assert g.meter.requests[0].status == 499
    assert {x.status for x in got} == {200}
    assert len(a.seen) == 2


async def test_a_client_that_leaves_gives_its_slot_back() -> None:
    gate = Gate()
    async with (
        simulated("a", gate) as a,
        gateway(table([a.backend(**limits(1))], [route("a")])) as g,
    ):
        async with connected(g.port) as client:
            await client.send(chat_request(chat_body()))
            await a.until(lambda: a.now == 1)
            second = ask(g, 1)
            await waiting(g, 1)
        await a.until(lambda: len(a.seen) == 2)
        gate.let(2)
        assert (await second[0]).status == 200


async def test_fallbacks_heed_the_limit() -> None:
    gate = Gate()
    async with simulated("a", FAILS) as a, simulated("b", gate) as b:
        compiled = table([a.backend(), b.backend(**limits(2))], [route("a", "b")])
        async with gateway(compiled) as g:
            tasks = ask(g, 6)
            await waiting(g, 4)
            await b.until(lambda: b.now == 2)
            gate.let(6)
            got = await asyncio.gather(*tasks)
    assert {x.headers["x-pointsman-backend"] for x in got} == {"b"}
    assert b.most == 2


async def test_the_total_deadline_ends_a_wait() -> None:
    gate = Gate()
    async with simulated("a", gate) as a:
        routes = [named("patient"), named("hasty", total="100ms")]
        async with gateway(table([a.backend(**limits(1))], routes)) as g:
            first = ask(g, 1, model="patient")
            await a.until(lambda: a.now == 1)
            got = await chat(g.port, model="hasty")
            gate.let()
            await asyncio.gather(*first)
    assert got.status == 429
    assert len(a.seen) == 1


async def test_a_higher_limit_lets_waiters_go_at_once() -> None:
    gate = Gate()
    async with simulated("a", gate) as a, gateway(table([a.backend(**limits(1))], [route("a")])) as g:
        tasks = ask(g, 4)
        await waiting(g, 3)
        g.state.set_table(table([a.backend(**limits(3))], [route("a")]))
        await a.until(lambda: a.now == 3)
        await waiting(g, 1)
        gate.let(4)
        await asyncio.gather(*tasks)
    assert a.most == 3


async def test_the_share_of_one_gateway_among_several() -> None:
    gate = Gate()
    async with simulated("a", gate) as a:
        compiled = compile_table([a.backend(**limits(4))], [route("a")], {}, {}, Crew(2, 1))
        async with gateway(compiled) as g:
            tasks = ask(g, 5)
            await waiting(g, 3)
            await a.until(lambda: a.now == 2)
            gate.let(5)
            await asyncio.gather(*tasks)
    assert a.most == 2


async def test_two_routes_to_one_backend_share_its_slots() -> None:
    gate = Gate()

    async with (
        simulated("a", gate) as a,
        gateway(table([a.backend(**limits(2))], [named("x"), named("y")])) as g,
    ):
        tasks = ask(g, 4, model="x") + ask(g, 4, model="y")
        await waiting(g, 6)
        await a.until(lambda: a.now == 2)
        gate.let(8)
        got = await asyncio.gather(*tasks)
    assert {x.status for x in got} == {200}
    assert a.most == 2


async def test_explain_names_the_limit_and_the_wait() -> None:
    gate = Gate()
    async with (
        simulated("a", gate) as a,
        simulated("b") as b,
        gateway(table([a.backend(**limits(1, timeout="5s")), b.backend()], [route("a", "b")])) as g,
    ):
        before = explain(g.state, CHAT, chat_body(), {})
        assert before["waitsFor"] is None
        tasks = ask(g, 3)
        await waiting(g, 2)
        found = explain(g.state, CHAT, chat_body(), {})
        assert [e["reason"] for e in found["excluded"]] == ["AtLimit"]
        assert found["waitsFor"] == {"for": "Slot", "backends": ["a"], "atMostSeconds": 5.0, "waiting": 2}
        gate.let(3)
        await asyncio.gather(*tasks)


async def test_the_access_log_says_how_long_a_request_waited() -> None:
    gate = Gate()
    async with simulated("a", gate) as a, gateway(table([a.backend(**limits(1))], [route("a")])) as g:
        first = ask(g, 1)
        await a.until(lambda: a.now == 1)
        second = ask(g, 1)
        await waiting(g, 1)
        gate.let(2)
        await asyncio.gather(*first, *second)
        waits = [r.queued_ms for r in g.meter.requests]
        assert [ms is not None for ms in waits] == [False, True]


async def test_metrics_show_the_limit_and_the_queue() -> None:
    gate = Gate()
    async with (
        simulated("a", gate) as a,
        gateway(table([a.backend(**limits(2))], [route("a")])) as g,
    ):
        tasks = ask(g, 5)
        await waiting(g, 3)
        registry = registry_of(GatewayMeter(), g.state, SourceStatus("manifests", "x"))
        shown = {name: registry.get_sample_value(name, {"backend": "a"}) for name in GAUGES}
        assert shown == dict(zip(GAUGES, (2.0, 2.0, 3.0), strict=True))
        gate.let(5)
        await asyncio.gather(*tasks)
        assert g.meter.waits == [("Slot", "Served")] * 3


async def test_who_found_the_queue_full_is_asked_of_the_next_once() -> None:
    gate = Gate()
    async with (
        simulated("a", gate) as a,
        simulated("b", gate) as b,
        gateway(
            table(
                [a.backend(**limits(1, queued=1, timeout="2s")), b.backend()],
                [route("a", "b")],
            )
        ) as g,
    ):
        tasks = ask(g, 1)
        await a.until(lambda: a.now == 1)
        tasks += ask(g, 1)
        await waiting(g, 1)
        tasks += ask(g, 1)
        await b.until(lambda: b.now == 2)
        assert g.meter.waits == [("Slot", "Full"), ("Slot", "TimedOut")]
        gate.let(3)
        got = await asyncio.gather(*tasks)
        assert len(g.meter.attempts) == 3
    assert [x.headers["x-pointsman-attempts"] for x in got] == ["1", "1", "1"]


async def test_who_was_let_go_may_wait_again_for_as_long_as_is_left() -> None:
    gate = Gate()
    busy = answers(429, error("slow down"), "application/json", "retry-after: 1")
    async with (
        simulated("a", busy) as a,
        simulated("b", gate) as b,
        gateway(
            table(
                [a.backend(), b.backend(**limits(1))],
                [route("a", "b")],
            )
        ) as g,
    ):
        tasks = ask(g, 1)
        await b.until(lambda: b.now == 1)  # `a` is saturated now
        tasks += ask(g, 1)
        await waiting(g, 1)
        await until(lambda: g.machine("a").hindrance("m", "", g.state.clock()) is None)
        g.state.waiting.look()
        await a.until(lambda: len(a.seen) == 2)
        await waiting(g, 1)
        gate.let(2)
        got = await asyncio.gather(*tasks)
    assert {x.status for x in got} == {200}
    assert {x.headers["x-pointsman-backend"] for x in got} == {"b"}
