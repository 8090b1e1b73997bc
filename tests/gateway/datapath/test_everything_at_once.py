"""Limits, queues, Hold and hedging together, under faults, with clients that leave and tables that change: nothing is
left behind, nobody waits for ever, no limit is passed."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from tests.support.engine import until
from tests.support.raw_client import chat_body, chat_request, connected
from tests.support.running_gateway import Running, gateway, route, table
from tests.support.simulated import Simulated, simulated

from pointsman.domain.table import RoutingTable
from pointsman.simulator.behaviour import Act, Behaviour, Pause, Words, answers, says, sends, streams
from pointsman.simulator.openai_bytes import DONE, FINISH, ROLE, error

REQUESTS = 500
LIMITS = {"a": 4, "b": 6, "c": 3}
SLOW = streams(Pause(0.4), ROLE, Words(), FINISH, DONE)
FAULTS: tuple[Behaviour, ...] = (
    answers(500, error("boom")),
    answers(503, error("Loading model", kind="unavailable_error"), "application/json", "retry-after: 0"),
    answers(429, error("slow down"), "application/json", "retry-after: 0"),
    sends(Act.RESET),
    streams(ROLE, Act.CUT),
    SLOW,
    SLOW,
)


def limited(backends: list[Simulated], more: int = 0) -> RoutingTable:
    spec: list[Any] = [
        b.backend(limits={"maxInFlight": LIMITS[b.label] + more, "maxQueued": 20, "queueTimeout": "3s"})
        for b in backends
    ]
    options = {"whileCold": "Hold", "holdTimeout": "3s", "maxHeld": 20, "firstTokenAfter": "50ms", "maxAttempts": 4}
    times = {"firstToken": "5s", "answer": "5s", "total": "30s"}
    return table(spec, [route(*(b.label for b in backends), timeouts=times, **options)])


@pytest.mark.parametrize("seed", [1, 2])
async def test_nothing_is_left_behind(seed: int) -> None:
    chance = random.Random(seed)

    def behave(one: Simulated) -> list[Behaviour]:
        return [chance.choice(FAULTS) if chance.random() < 0.3 else says for _ in range(REQUESTS * 2)]

    async def client(g: Running) -> int:
        async with crowd:
            return await ask(g)

    async def ask(g: Running) -> int:
        stream = chance.random() < 0.6
        patience = 0.05 * chance.random() if chance.random() < 0.15 else 100.0
        padding = "x" * chance.choice((10, 10, 40_000))
        async with connected(g.port) as raw:
            await raw.send(chat_request(chat_body(stream=stream, padding=padding)))
            try:
                async with asyncio.timeout(patience):
                    got = await raw.receive()
            except TimeoutError:
                return 499
            if got.status == 200 and stream and "error" not in str(got.events[-1]):
                assert got.text.count("one") == 1, "one answer, once"
                assert got.events.count("[DONE]") == 1
            return got.status

    async def reload(g: Running, backends: list[Simulated]) -> None:
        for n in range(1, 8):
            await asyncio.sleep(0.3)
            g.state.set_table(limited(backends, n % 2))

    async def look(g: Running) -> None:
        """An engine may not have noticed yet that a request was cancelled; the gateway has."""
        while True:
            for one in backends:
                most[one.label] = max(most[one.label], g.machine(one.label).in_flight)
            await asyncio.sleep(0.001)

    crowd = asyncio.Semaphore(60)  # as many at once on every machine: who comes at his own time swamps a slow one
    most = dict.fromkeys(LIMITS, 0)
    async with simulated("a") as a, simulated("b") as b, simulated("c") as c:
        backends = [a, b, c]
        for one in backends:
            one.script = behave(one)
        async with gateway(limited(backends)) as g:
            beside = [asyncio.create_task(reload(g, backends)), asyncio.create_task(look(g))]
            statuses = await asyncio.gather(*(client(g) for _ in range(REQUESTS)))
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            await until(lambda: len(g.meter.requests) == REQUESTS)
            path, state = g.server.path, g.state
            assert set(statuses) <= {200, 429, 499, 502, 503, 504}
            assert statuses.count(200) > REQUESTS // 2
            assert (len(state.waiting), len(state.held), path.hedges, path.bodies) == (0, 0, 0, 0)
            assert [g.machine(one.label).in_flight for one in backends] == [0, 0, 0]
            assert all(most[label] <= LIMITS[label] + 1 for label in LIMITS), "one more by every other table"
            assert g.meter.hedges
            assert {awaited for awaited, _ in g.meter.waits} == {"Slot", "Warmth"}
