"""`firstTokenAfter`: a stream that is slow to begin is asked of the next target too; first content wins."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.support.engine import until
from tests.support.raw_client import Got, chat, chat_body, chat_request, connected
from tests.support.running_gateway import Running, gateway, route, table
from tests.support.simulated import Gate, simulated

from pointsman.simulator.behaviour import Act, Pause, Words, answers, says, sends, streams
from pointsman.simulator.openai_bytes import DONE, FINISH, ROLE, error

FAILS = answers(500, error("boom"))
HEDGE: dict[str, Any] = {"firstTokenAfter": "100ms"}
LATE: dict[str, Any] = {"firstTokenAfter": "1s"}
"""Later than a backend that is well may be on a busy machine."""
HANGS = streams(ROLE, Act.SILENCE)


def ask(running: Running, number: int, **how: Any) -> list[asyncio.Task[Got]]:
    return [asyncio.create_task(chat(running.port, stream=True, **how)) for _ in range(number)]


async def test_first_content_wins_and_the_loser_is_cancelled_at_once() -> None:
    async with (
        simulated("a", HANGS) as a,
        simulated("b") as b,
        gateway(table([a.backend(), b.backend()], [route("a", "b", **HEDGE)])) as g,
    ):
        got = await chat(g.port, stream=True)
        assert got.headers["x-pointsman-backend"] == "b"
        assert got.headers["x-pointsman-attempts"] == "2"
        assert got.text == b.speaks(b.seen[0])
        assert got.events.count("[DONE]") == 1
        await asyncio.wait_for(a.seen[0].left.wait(), 10)
        assert sorted(g.meter.verdicts) == [("a", "Slow", "SlowFirstToken"), ("b", "Success", "Answered")]
        assert g.meter.hedges == ["Won"]
        assert g.meter.fallbacks == [("a", "b", "SlowFirstToken")]
        assert g.machine("a").state != "Unhealthy"
        assert g.machine("a").in_flight == g.machine("b").in_flight == 0


async def test_the_first_may_still_win() -> None:
    gate = Gate()
    async with (
        simulated("a", gate) as a,
        simulated("b", HANGS) as b,
        gateway(table([a.backend(), b.backend()], [route("a", "b", **HEDGE)])) as g,
    ):
        task = asyncio.create_task(chat(g.port, stream=True))
        await b.until(lambda: b.now == 1)
        gate.let()
        got = await task
        assert got.headers["x-pointsman-backend"] == "a"
        await asyncio.wait_for(b.seen[0].left.wait(), 10)
        assert sorted(g.meter.verdicts) == [("a", "Success", "Answered"), ("b", "Cancelled", "Outrun")]
        assert g.meter.hedges == ["Lost"]
        assert g.meter.fallbacks == []


async def test_it_is_off_unless_set() -> None:
    gate = Gate()
    async with (
        simulated("a", gate) as a,
        simulated("b") as b,
        gateway(table([a.backend(), b.backend()], [route("a", "b")])) as g,
    ):
        task = asyncio.create_task(chat(g.port, stream=True))
        await a.until(lambda: a.now == 1)
        await asyncio.sleep(0.25)
        gate.let()
        await task
    assert not b.seen


async def test_json_is_never_hedged() -> None:
    gate = Gate()
    async with (
        simulated("a", gate) as a,
        simulated("b") as b,
        gateway(table([a.backend(), b.backend()], [route("a", "b", **HEDGE)])) as g,
    ):
        task = asyncio.create_task(chat(g.port))
        await a.until(lambda: a.now == 1)
        await asyncio.sleep(0.25)
        gate.let()
        await task
    assert not b.seen


async def test_a_quick_first_token_asks_nobody_else() -> None:
    async with (
        simulated("a") as a,
        simulated("b") as b,
        gateway(table([a.backend(), b.backend()], [route("a", "b", **LATE)])) as g,
    ):
        for _ in range(5):
            await chat(g.port, stream=True)
        await asyncio.sleep(1.2)
        assert g.meter.hedges == []
    assert not b.seen


async def test_after_the_first_content_nothing_is_hedged() -> None:
    slow_middle = streams(ROLE, Words(1), Pause(4), Words(None, 1), FINISH, DONE)  # 1.2 s
    async with (
        simulated("a", slow_middle) as a,
        simulated("b") as b,
        gateway(table([a.backend(), b.backend()], [route("a", "b", **LATE)])) as g,
    ):
        got = await chat(g.port, stream=True)
    assert got.headers["x-pointsman-backend"] == "a"
    assert not b.seen


@pytest.mark.parametrize("fails", ["first", "second"])
async def test_when_one_of_the_two_fails_the_other_goes_on(fails: str) -> None:
    gate = Gate()
    failing = Gate(FAILS)
    scripts = (failing, gate) if fails == "first" else (gate, failing)
    async with (
        simulated("a", scripts[0]) as a,
        simulated("b", scripts[1]) as b,
        simulated("c") as c,
        gateway(table([a.backend(), b.backend(), c.backend()], [route("a", "b", "c", **HEDGE)])) as g,
    ):
        task = asyncio.create_task(chat(g.port, stream=True))
        await b.until(lambda: b.now == 1)
        failing.let()
        await (a if fails == "first" else b).until(lambda: (a if fails == "first" else b).now == 0)
        await until(lambda: len(g.meter.attempts) == 1)
        gate.let()
        got = await task
        assert got.headers["x-pointsman-backend"] == ("b" if fails == "first" else "a")
    assert not c.seen, "no third while one of two may still answer"


async def test_when_both_fail_the_third_is_asked() -> None:
    failing = Gate(FAILS)
    async with (
        simulated("a", failing) as a,
        simulated("b", failing) as b,
        simulated("c") as c,
        gateway(table([a.backend(), b.backend(), c.backend()], [route("a", "b", "c", **HEDGE)])) as g,
    ):
        task = asyncio.create_task(chat(g.port, stream=True))
        await b.until(lambda: b.now == 1)
        failing.let(2)
        got = await task
    assert got.headers["x-pointsman-backend"] == "c"
    assert got.headers["x-pointsman-attempts"] == "3"


async def test_a_client_that_leaves_cancels_both() -> None:
    async with (
        simulated("a", HANGS) as a,
        simulated("b", HANGS) as b,
        gateway(table([a.backend(), b.backend()], [route("a", "b", **HEDGE)])) as g,
    ):
        async with connected(g.port) as client:
            await client.send(chat_request(chat_body(stream=True)))
            await b.until(lambda: b.now == 1)
        for one in (a, b):
            await asyncio.wait_for(one.seen[0].left.wait(), 10)
        await until(lambda: len(g.meter.requests) == 1)
        assert g.machine("a").in_flight == g.machine("b").in_flight == 0
        assert {v for _, v, _ in g.meter.verdicts} == {"Cancelled"}


async def test_both_silent_ends_at_the_first_token_timeout() -> None:
    times = {"total": "5s", "firstToken": "300ms"}
    async with (
        simulated("a", HANGS) as a,
        simulated("b", HANGS) as b,
        gateway(table([a.backend(), b.backend()], [route("a", "b", firstTokenAfter="100ms", timeouts=times)])) as g,
    ):
        got = await chat(g.port, stream=True)
        assert got.status == 504
        assert got.message.count("FirstTokenTimeout") == 2


async def test_it_needs_a_spare_slot() -> None:
    gate = Gate()
    async with (
        simulated("a", HANGS, says) as a,
        simulated("b", gate) as b,
        gateway(
            table(
                [a.backend(), b.backend(limits={"maxInFlight": 1})],
                [route("a", "b", models=("hedged",), timeouts={"firstToken": "2s"}, **HEDGE)],
            )
        ) as g,
    ):
        machine = g.machine("b")
        machine.begin()
        got = asyncio.create_task(chat(g.port, model="hedged", stream=True))
        await a.until(lambda: a.now == 1)
        await asyncio.sleep(0.25)
        assert not b.seen
        assert len(g.state.waiting) == 0
        machine.end(False)
        gate.let()
        assert (await got).status == 200


async def test_few_are_hedged_at_once() -> None:
    gate = Gate()
    async with (
        simulated("a", gate) as a,
        simulated("b", gate) as b,
        gateway(table([a.backend(), b.backend()], [route("a", "b", **HEDGE)])) as g,
    ):
        tasks = ask(g, 50)
        await a.until(lambda: a.now == 50)
        await b.until(lambda: b.now == 2)
        await asyncio.sleep(0.3)
        assert b.most == 2, "5 % of those in flight"
        gate.let(100)
        await asyncio.gather(*tasks)


async def test_one_at_least_may_be_hedged() -> None:
    async with (
        simulated("a", HANGS) as a,
        simulated("b") as b,
        gateway(table([a.backend(), b.backend()], [route("a", "b", **HEDGE)])) as g,
    ):
        assert (await chat(g.port, stream=True)).status == 200
        assert (await chat(g.port, stream=True)).status == 200
    assert len(b.seen) == 2


async def test_a_caller_who_wants_no_fallback_gets_no_hedge() -> None:
    gate = Gate()
    async with (
        simulated("a", gate) as a,
        simulated("b") as b,
        gateway(table([a.backend(), b.backend()], [route("a", "b", **HEDGE)])) as g,
    ):
        task = asyncio.create_task(chat(g.port, "x-pointsman-fallback: none", stream=True))
        await a.until(lambda: a.now == 1)
        await asyncio.sleep(0.25)
        gate.let()
        await task
    assert not b.seen


async def test_silence_from_the_start_is_slow_as_well() -> None:
    async with (
        simulated("a", sends(Act.SILENCE)) as a,
        simulated("b") as b,
        gateway(table([a.backend(), b.backend()], [route("a", "b", **HEDGE)])) as g,
    ):
        got = await chat(g.port, stream=True)
        assert got.headers["x-pointsman-backend"] == "b"
    assert len(a.seen) == 1
