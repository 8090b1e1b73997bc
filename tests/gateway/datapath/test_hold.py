"""`whileCold: Hold`: requests wait for a target that is not ready, without a crowd at its door, and not for ever."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from tests.support.engine import until
from tests.support.raw_client import Got, chat, chat_body, chat_request, connected
from tests.support.running_gateway import Running, gateway, ollama, route, table
from tests.support.simulated import Gate, Simulated, simulated

from pointsman.api.objects import ModelRoute
from pointsman.domain.table import RoutingTable
from pointsman.gateway.limits import Limits
from pointsman.simulator.behaviour import Act, Behaviour, Words, answers, says, streams
from pointsman.simulator.connection import Connection, Request
from pointsman.simulator.openai_bytes import ROLE, error

LOADING = answers(503, error("Loading model", kind="unavailable_error"), "application/json", "retry-after: 0")
FAILS = answers(500, error("boom"))
TALKATIVE = Limits(silent_seconds=0.1)


def holding(*targets: str, **fallback: Any) -> ModelRoute:
    return route(*targets, whileCold="Hold", **fallback)


def ask(running: Running, number: int, **how: Any) -> list[asyncio.Task[Got]]:
    return [asyncio.create_task(chat(running.port, **how)) for _ in range(number)]


def pods(a: Simulated | None, *others: Simulated, **fallback: Any) -> RoutingTable:
    """A backend of ours named `pods`, without a pod or with `a` as its only one, before the others."""
    names = ["pods", *(o.label for o in others)]
    backends = [ollama("pods"), *(o.backend() for o in others)]
    return table(backends, [holding(*names, **fallback)], {"pods": [a.port] if a else []})


async def test_a_request_waits_for_a_model_that_loads() -> None:
    async with (
        simulated("a", LOADING, LOADING, says) as a,
        simulated("b") as b,
        gateway(table([a.backend(), b.backend()], [holding("a", "b")])) as g,
    ):
        got = await chat(g.port)
        assert got.headers["x-pointsman-backend"] == "a"
        assert got.headers["x-pointsman-attempts"] == "3"
        record = g.meter.requests[0]
        assert record.queued_ms is not None
        assert record.queued_ms > 400
        assert record.overhead_us < record.queued_ms * 1000, "waiting is no overhead"
        assert g.meter.waits[-1] == ("Warmth", "Served")
        assert g.meter.fallbacks == []
    assert not b.seen


async def test_a_request_waits_for_the_first_pod() -> None:
    async with simulated("a") as a, simulated("b") as b, gateway(pods(None, b)) as g:
        tasks = ask(g, 5)
        await until(lambda: g.state.held.count("r") == 5)
        g.state.set_table(pods(a, b))
        got = await asyncio.gather(*tasks)
    assert {x.headers["x-pointsman-backend"] for x in got} == {"pods"}
    assert not b.seen


async def test_who_waited_long_enough_moves_on() -> None:
    async with simulated("b") as b, gateway(pods(None, b, holdTimeout="200ms")) as g:
        began = time.monotonic()
        got = await chat(g.port)
        assert got.headers["x-pointsman-backend"] == "b"
        assert time.monotonic() - began > 0.19
        assert g.meter.waits == [("Warmth", "TimedOut")]
        assert g.meter.fallbacks == [("pods", "b", "NoEndpoint")]


async def test_with_nobody_else_it_ends_as_503() -> None:
    async with gateway(pods(None, holdTimeout="100ms")) as g:
        got = await chat(g.port)
    assert got.status == 503
    assert int(got.headers["retry-after"]) >= 1


async def test_only_so_many_are_held() -> None:
    async with simulated("a") as a, simulated("b") as b, gateway(pods(None, b, maxHeld=2)) as g:
        tasks = ask(g, 2)
        await until(lambda: g.state.held.count("r") == 2)
        third = await chat(g.port)
        assert third.headers["x-pointsman-backend"] == "b"
        assert g.meter.waits == [("Warmth", "Full")]
        g.state.set_table(pods(a, b, maxHeld=2))
        await asyncio.gather(*tasks)


async def test_one_goes_ahead_while_the_others_wait() -> None:
    loads: list[Behaviour] = [LOADING] * 3
    async with (
        simulated("a", *loads, says) as a,
        simulated("b") as b,
        gateway(table([a.backend(), b.backend()], [holding("a", "b")])) as g,
    ):
        first = ask(g, 1)
        await until(lambda: g.state.held.count("r") == 1)
        others = ask(g, 30)
        got = await asyncio.gather(*first, *others)
    assert {x.headers["x-pointsman-backend"] for x in got} == {"a"}
    assert len(a.seen) == 31 + 3, "none but the one that went ahead was turned away"


async def test_a_held_stream_gets_comments_then_its_answer() -> None:
    async with simulated("a") as a, gateway(pods(None), limits=TALKATIVE) as g, connected(g.port) as client:
        await client.send(chat_request(chat_body(stream=True)))
        head = await client.receive(head_only=True)
        assert head.status == 200
        assert head.headers["content-type"].startswith("text/event-stream")
        assert "x-pointsman-backend" not in head.headers
        assert "x-request-id" in head.headers
        g.state.set_table(pods(a))
        text = (await client.reader.readuntil(b"0\r\n\r\n")).decode()
        assert text.count(": waiting for") >= 1
        assert ": x-pointsman-backend: pods" in text
        assert text.index(": x-pointsman-backend") < text.index("data: ")
        assert text.count("[DONE]") == 1
        assert text.count("HTTP/1.1") == 0


async def test_comments_go_on_until_the_first_content() -> None:
    gate = Gate()
    async with (
        simulated("a", gate) as a,
        gateway(pods(None), limits=TALKATIVE) as g,
        connected(g.port) as client,
    ):
        await client.send(chat_request(chat_body(stream=True)))
        await client.receive(head_only=True)
        g.state.set_table(pods(a))
        await a.until(lambda: a.now == 1)
        for _ in range(2):
            await asyncio.wait_for(client.reader.readuntil(b": waiting for"), 10)
        gate.let()
        rest = await client.reader.readuntil(b"0\r\n\r\n")
        assert b"[DONE]" in rest


async def test_a_failure_after_the_head_is_an_event() -> None:
    async with (
        gateway(pods(None, holdTimeout="1s"), limits=TALKATIVE) as g,
        connected(g.port) as client,
    ):
        await client.send(chat_request(chat_body(stream=True)))
        got = await client.receive()
        assert got.status == 200
        assert got.whole
        assert got.events[-1]["error"]["code"] == "no_backend"
        assert "[DONE]" not in got.events
        assert g.meter.requests[0].verdict != "Success"
        await client.send(chat_request(chat_body(model="absent")))
        assert (await client.receive()).status == 404, "the connection goes on"


async def test_a_caller_s_error_after_the_head_is_an_event_too() -> None:
    bad = answers(400, error("temperature is too high", kind="invalid_request_error"))
    async with simulated("a", bad) as a, gateway(pods(None), limits=TALKATIVE) as g, connected(g.port) as client:
        await client.send(chat_request(chat_body(stream=True)))
        head = await client.receive(head_only=True)
        assert head.status == 200
        g.state.set_table(pods(a))
        text = (await client.reader.readuntil(b"0\r\n\r\n")).decode()
    assert "temperature is too high" in text
    assert "[DONE]" not in text


async def test_a_fallback_after_the_head_answers_in_the_same_stream() -> None:
    async with (
        simulated("a", FAILS) as a,
        simulated("b") as b,
        gateway(pods(None, b), limits=TALKATIVE) as g,
        connected(g.port) as client,
    ):
        await client.send(chat_request(chat_body(stream=True)))
        await client.receive(head_only=True)
        g.state.set_table(pods(a, b))
        text = (await client.reader.readuntil(b"0\r\n\r\n")).decode()
    assert ": x-pointsman-backend: b" in text
    assert "[DONE]" in text


async def test_a_break_after_content_of_a_held_stream() -> None:
    cut = streams(ROLE, Words(2), Act.CUT)
    async with simulated("a", cut) as a, gateway(pods(None), limits=TALKATIVE) as g, connected(g.port) as client:
        await client.send(chat_request(chat_body(stream=True)))
        await client.receive(head_only=True)
        g.state.set_table(pods(a))
        text = (await client.reader.readuntil(b"0\r\n\r\n")).decode()
    assert '"error"' in text
    assert "[DONE]" not in text


async def test_json_gets_no_byte_while_it_waits() -> None:
    async with simulated("a") as a, gateway(pods(None), limits=TALKATIVE) as g, connected(g.port) as client:
        await client.send(chat_request(chat_body()))
        await until(lambda: len(g.state.held) == 1)
        reading = asyncio.create_task(client.receive())
        done, _ = await asyncio.wait([reading], timeout=0.4)
        assert not done
        g.state.set_table(pods(a))
        got = await reading
    assert got.status == 200
    assert got.headers["x-pointsman-backend"] == "pods"


async def test_a_stream_that_waits_for_a_slot_gets_comments_too() -> None:
    gate = Gate()
    limits = {"limits": {"maxInFlight": 1, "queueTimeout": "30s"}}
    async with (
        simulated("a", gate) as a,
        gateway(table([a.backend(**limits)], [route("a")]), limits=TALKATIVE) as g,
    ):
        first = ask(g, 1)
        await a.until(lambda: a.now == 1)
        async with connected(g.port) as client:
            await client.send(chat_request(chat_body(stream=True)))
            assert (await client.receive(head_only=True)).status == 200
            gate.let(2)
            text = (await client.reader.readuntil(b"0\r\n\r\n")).decode()
        await asyncio.gather(*first)
    assert ": x-pointsman-backend: a" in text
    assert "[DONE]" in text


async def test_a_client_that_leaves_is_not_held() -> None:
    async with simulated("a") as a, gateway(pods(None)) as g:
        async with connected(g.port) as client:
            await client.send(chat_request(chat_body()))
            await until(lambda: len(g.state.held) == 1)
        await until(lambda: len(g.state.held) == 0)
        g.state.set_table(pods(a))
        await until(lambda: len(g.meter.requests) == 1)
        assert g.meter.requests[0].status == 499
        assert g.meter.waits == [("Warmth", "Left")]
    assert not a.seen


async def test_looks_at_who_is_loading_do_not_use_up_the_attempts_of_others() -> None:
    made = holding("a", "b", "c", holdTimeout="1500ms", maxAttempts=3)
    async with (
        simulated("a", LOADING) as a,
        simulated("b", LOADING) as b,
        simulated("c") as c,
        gateway(table([x.backend() for x in (a, b, c)], [made])) as g,
    ):
        got = await chat(g.port)
        assert (got.status, got.headers["x-pointsman-backend"]) == (200, "c")
        assert len(a.seen) + len(b.seen) > 3, "each was looked at more than once"
        assert got.headers["x-pointsman-attempts"] == str(len(a.seen) + len(b.seen) + 1), "and it is told"


async def test_who_loads_for_one_model_and_answers_for_another_is_not_asked_all_the_time() -> None:
    """Each answer to others makes a backend seem ready: while one is asked in vain, the other does."""
    looks: list[str] = []
    answered = asyncio.Condition()

    def behaves(label: str) -> Behaviour:
        async def behave(connection: Connection, request: Request) -> None:
            if request.json["model"] == "m":
                looks.append(label)
                async with answered:
                    await answered.wait()
                await LOADING(connection, request)
            else:
                await says(connection, request)

        return behave

    specs = [{"models": [f"busy-{n}"], "targets": [{"backend": n, "model": "other"}]} for n in "ab"]
    routes = [ModelRoute.parse({"metadata": {"name": f"s{n}"}, "spec": spec}) for n, spec in enumerate(specs)]
    async with simulated("a", behaves("a")) as a, simulated("b", behaves("b")) as b:
        backends = [x.backend(models=[{"name": "m"}, {"name": "other"}]) for x in (a, b)]
        async with gateway(table(backends, [holding("a", "b", holdTimeout="2s"), *routes])) as g:
            began = time.monotonic()
            held = asyncio.create_task(chat(g.port))
            while not held.done():
                for name in ("busy-a", "busy-b"):
                    assert (await chat(g.port, model=name)).status == 200
                async with answered:
                    answered.notify_all()
            assert (await held).status == 503
            took = time.monotonic() - began
    assert len(looks) >= 4
    assert max(looks.count("a"), looks.count("b")) <= 2 + 4 * took + 2, "twice, and then four times a second"
