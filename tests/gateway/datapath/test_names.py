"""Names of External backends: several addresses of which some are dead, answers that change, resolvers that fail."""

from __future__ import annotations

import asyncio
import gc
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest
from tests.gateway.datapath.test_silent_addresses import silent_port
from tests.support.engine import until
from tests.support.raw_client import chat
from tests.support.running_gateway import Running, external, gateway, route, table
from tests.support.upstream import says

from pointsman.gateway.upstream.dialer import Resolver
from pointsman.simulator.behaviour import answers
from pointsman.simulator.openai_bytes import completion

CLOSING = answers(200, completion("ok"), "application/json", "connection: close")
"""A good answer, and a new connection for the next."""


class Names:
    """A resolver that says what the test wants, and counts."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses
        self.asked = 0
        self.hang = False

    async def lookup(self, host: str) -> tuple[str, ...]:
        self.asked += 1
        if self.hang:
            await asyncio.sleep(3600)
        if not self.addresses:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return self.addresses

    def serve(self, g: Running, fresh: float = 0.0) -> None:
        resolver = g.server.path.dialer.resolver
        resolver.lookup = self.lookup
        resolver.fresh_seconds = fresh


def named(port: int, **timeouts: str) -> Any:
    return table([external("a", f"http://engine.test:{port}/v1")], [route("a", timeouts=timeouts)])


async def test_a_dead_address_is_passed_over_and_the_live_one_goes_first_from_then_on(upstream: Any) -> None:
    a = await upstream(CLOSING)
    names = Names("127.0.0.9", "127.0.0.8", "127.0.0.1")
    async with gateway(named(a.port)) as g:
        names.serve(g, fresh=60)
        for _ in range(3):
            assert (await chat(g.port)).headers["x-pointsman-attempts"] == "1"
        assert g.meter.verdicts == [("a", "Success", "Answered")] * 3
        resolver = g.server.path.dialer.resolver
        assert await resolver.addresses("engine.test") == ("127.0.0.1", "127.0.0.9", "127.0.0.8")
        assert names.asked == 1
        resolver.fresh_seconds = 0
        await resolver._ask("engine.test")
        assert (await resolver.addresses("engine.test"))[0] == "127.0.0.1", "also in the next answer of the resolver"


async def test_an_address_that_says_nothing_takes_only_its_share_of_the_time(upstream: Any) -> None:
    async with silent_port() as port:
        live = await upstream(CLOSING, port=port, host="127.0.0.2")
        names = Names("127.0.0.1", "127.0.0.2")
        async with gateway(named(port, connect="4s")) as g:
            names.serve(g, fresh=60)
            began = time.monotonic()
            assert (await chat(g.port)).status == 200
            assert 1.9 < time.monotonic() - began < 3.9, "half of `connect`"
            began = time.monotonic()
            assert (await chat(g.port)).status == 200
            assert time.monotonic() - began < 1.9, "who answered goes first"
        assert len(live.seen) == 2


async def test_all_addresses_dead_is_one_failure(upstream: Any) -> None:
    a = await upstream(says("ok"))
    async with gateway(named(a.port)) as g:
        Names("127.0.0.9", "127.0.0.8").serve(g)
        assert (await chat(g.port)).status == 502
        assert g.meter.verdicts == [("a", "Failure", "Refused")]


async def test_a_new_answer_is_taken_up(upstream: Any) -> None:
    first = await upstream(CLOSING)
    second = await upstream(CLOSING, port=first.port, host="127.0.0.2")
    names = Names("127.0.0.1")
    async with gateway(named(first.port)) as g:
        names.serve(g)
        assert (await chat(g.port)).status == 200
        await first.stop()
        names.addresses = ("127.0.0.2",)

        async def moved() -> bool:
            await chat(g.port)
            return bool(second.seen)

        for _ in range(20):
            if await moved():
                break
        assert second.seen


@pytest.mark.parametrize("fail", [lambda n: setattr(n, "hang", True), lambda n: setattr(n, "addresses", ())])
async def test_a_resolver_that_fails_or_hangs_holds_up_nobody_who_was_known(
    fail: Callable[[Names], None], upstream: Any
) -> None:
    a = await upstream(CLOSING)
    names = Names("127.0.0.1")
    async with gateway(named(a.port)) as g:
        names.serve(g)
        assert (await chat(g.port)).status == 200
        fail(names)
        for _ in range(5):
            began = time.monotonic()
            assert (await chat(g.port)).status == 200
            assert time.monotonic() - began < 5, "half of `connect`"
        await until(lambda: names.asked >= 2)


async def test_a_first_look_up_that_hangs_ends_with_connect_and_costs_no_attempt(upstream: Any) -> None:
    b = await upstream(says("b"))
    backends = [external("a", "http://engine.test:1/v1"), external("b", f"http://127.0.0.1:{b.port}/v1")]
    compiled = table(backends, [route("a", "b", timeouts={"connect": "500ms"}, maxAttempts=1)])
    async with gateway(compiled) as g:
        names = Names("127.0.0.1")
        names.hang = True
        names.serve(g)
        got = await asyncio.wait_for(chat(g.port), 30)
        assert got.headers["x-pointsman-backend"] == "b"
        assert g.meter.verdicts[0] == ("a", "Failure", "DnsFailed")


async def test_one_look_up_serves_all_who_wait_for_it(upstream: Any) -> None:
    a = await upstream(CLOSING)
    names = Names("127.0.0.1")
    async with gateway(named(a.port)) as g:
        names.serve(g, fresh=60)
        assert {r.status for r in await asyncio.gather(*(chat(g.port) for _ in range(20)))} == {200}
        assert names.asked == 1


async def test_a_look_up_that_fails_when_nobody_waits_any_more_is_no_news() -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, what: complaints.append(what))
    resolver = Resolver(time.monotonic)
    fail = asyncio.Event()
    asked = asyncio.Event()

    async def lookup(host: str) -> tuple[str, ...]:
        asked.set()
        await fail.wait()
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    resolver.lookup = lookup
    waiting = asyncio.create_task(resolver.addresses("engine.test"))
    await asyncio.wait_for(asked.wait(), 10)
    waiting.cancel()
    await asyncio.wait([waiting])
    del waiting  # its traceback would keep the look-up alive
    fail.set()
    await until(lambda: not resolver._asking)
    gc.collect()
    assert complaints == []
