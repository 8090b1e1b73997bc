"""Large bodies: kept for the next candidate up to a limit, then sent once, and the answer says so."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.support.engine import until
from tests.support.raw_client import Got, chat_body, chat_request, connected
from tests.support.running_gateway import SHORT, Running, external, gateway, route, table
from tests.support.simulated import Gate, simulated

from pointsman.gateway.limits import Limits
from pointsman.simulator.behaviour import Act, Pause, Words, answers, streams
from pointsman.simulator.openai_bytes import DONE, FINISH, ROLE, completion, error

FAILS = answers(500, error("boom"))
LARGE = "x" * 300_000
SMALL_REPLAY = Limits(replay_bytes=100_000)


async def ask(running: Running, *headers: str, **how: Any) -> Got:
    async with connected(running.port) as client:
        await client.send(chat_request(chat_body(padding=LARGE, **how), *headers))
        return await client.receive()


@pytest.mark.parametrize("stream", [False, True])
async def test_a_large_body_is_kept_for_the_next_candidate(stream: bool) -> None:
    async with (
        simulated("a", FAILS) as a,
        simulated("b") as b,
        gateway(table([a.backend(), b.backend()], [route("a", "b")])) as g,
    ):
        got = await ask(g, stream=stream)
        assert got.headers["x-pointsman-backend"] == "b"
        assert "x-pointsman-replay" not in got.headers
        assert b.seen[0].json["padding"] == LARGE
        assert g.server.path.bodies == 0


@pytest.mark.parametrize("stream", [False, True])
async def test_beyond_the_limit_there_is_one_attempt_and_the_answer_says_so(stream: bool) -> None:
    async with (
        simulated("a", FAILS) as a,
        simulated("b") as b,
        gateway(table([a.backend(), b.backend()], [route("a", "b")]), limits=SMALL_REPLAY) as g,
    ):
        got = await ask(g, stream=stream)
        assert got.status == 502
        assert got.headers["x-pointsman-replay"] == "none"
        assert len(a.seen) == 1
        assert a.seen[0].json["padding"] == LARGE
    assert not b.seen


async def test_a_good_answer_to_it_says_so_too() -> None:
    async with simulated("a") as a, gateway(table([a.backend()], [route("a")]), limits=SMALL_REPLAY) as g:
        for _ in range(2):
            got = await ask(g, stream=True)
            assert got.status == 200
            assert got.headers["x-pointsman-replay"] == "none"


async def test_a_dial_that_fails_is_no_attempt_for_it() -> None:
    async with simulated("a") as a, simulated("b") as b:
        compiled = table([a.backend(), b.backend()], [route("a", "b")])
        await a.refuse()
        async with gateway(compiled, limits=SMALL_REPLAY) as g:
            got = await ask(g)
    assert got.headers["x-pointsman-backend"] == "b"
    assert b.seen[0].json["padding"] == LARGE


async def test_all_bodies_together_have_a_limit() -> None:
    gate = Gate()
    limits = Limits(kept_bytes=500_000)
    async with (
        simulated("a", gate) as a,
        gateway(table([a.backend()], [route("a")]), limits=limits) as g,
        connected(g.port) as first,
    ):
        await first.send(chat_request(chat_body(padding=LARGE)))
        await a.until(lambda: a.now == 1)
        async with connected(g.port) as second:
            await second.send(chat_request(chat_body(padding=LARGE)))
            await a.until(lambda: a.now == 2)
            gate.let(2)
            assert "x-pointsman-replay" not in (await first.receive()).headers
            assert (await second.receive()).headers["x-pointsman-replay"] == "none"
        assert g.server.path.bodies == 0


async def test_the_first_content_frees_the_body() -> None:
    gate = Gate(streams(ROLE, Words(1), Act.SILENCE))
    async with (
        simulated("a", gate) as a,
        gateway(table([a.backend()], [route("a")])) as g,
        connected(g.port) as client,
    ):
        await client.send(chat_request(chat_body(stream=True, padding=LARGE)))
        await a.until(lambda: a.now == 1)
        assert g.server.path.bodies > len(LARGE)
        gate.let()
        await client.receive(head_only=True)
        assert g.server.path.bodies == 0


async def test_a_client_that_leaves_frees_the_body() -> None:
    gate = Gate()
    async with simulated("a", gate) as a, gateway(table([a.backend()], [route("a")])) as g:
        async with connected(g.port) as client:
            await client.send(chat_request(chat_body(padding=LARGE)))
            await a.until(lambda: a.now == 1)
        await until(lambda: g.server.path.bodies == 0)


async def test_a_long_prompt_may_take_longer_until_its_first_token() -> None:
    slow = streams(Pause(7), ROLE, Words(), FINISH, DONE)  # 2.1 s, twice `firstToken`
    async with (
        simulated("a", slow) as a,
        simulated("b") as b,
        gateway(table([a.backend(), b.backend()], [route("a", "b", timeouts=SHORT)])) as g,
    ):
        assert (await ask(g, stream=True)).headers["x-pointsman-backend"] == "a"
        async with connected(g.port) as client:
            await client.send(chat_request(chat_body(stream=True)))
            assert (await client.receive()).headers["x-pointsman-backend"] == "b"


async def test_a_backend_that_takes_a_large_request_slowly() -> None:
    read = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read.wait()
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = int(next(line for line in head.lower().split("\r\n") if line.startswith("content-length")).split()[1])
        await reader.readexactly(length)
        body = completion("ok")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body))
        writer.write(body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(slow, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    backends = [external("a", f"http://127.0.0.1:{port}/v1")]
    async with server, gateway(table(backends, [route("a")])) as g, connected(g.port) as client:
        await client.send(chat_request(chat_body(padding="x" * 20_000_000)))
        await until(lambda: g.machine("a").in_flight == 1)
        read.set()
        assert (await client.receive()).status == 200
