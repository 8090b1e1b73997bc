"""`GET /v1/events`: what a reader hears, in order, and what one hears that was too slow."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
from tests.gateway.test_admin import SECRET, serving, table
from tests.gateway.test_standalone import backend, route
from tests.support import openai_engine
from tests.support.engine import Engine, Reply
from tests.support.gateway_process import gateway_process

from pointsman.gateway.insight.broadcast import QUEUE_LIMIT, Broadcast
from pointsman.gateway.state import GatewayState


async def events(answer: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
    name = ""
    async for line in answer.content:
        if line.startswith(b"event: "):
            name = line.removeprefix(b"event: ").decode().strip()
        elif line.startswith(b"data: "):
            event = json.loads(line.removeprefix(b"data: "))
            assert event["kind"] == name
            yield event


async def following(stream: AsyncIterator[dict[str, Any]]) -> dict[str, Any]:
    return await asyncio.wait_for(anext(stream), 30)


async def test_health_fallbacks_and_tables_are_told_as_they_happen() -> None:
    async with serving("a", "b") as gateway, gateway.http.get("/v1/events") as answer:
        assert answer.content_type == "text/event-stream"
        stream = events(answer)
        hello = await following(stream)
        assert (hello["kind"], hello["gateway"]) == ("Hello", "gateway-0")
        gateway.eject("a")
        change = await following(stream)
        assert abs(change.pop("at") - time.time()) < 30
        assert change == {
            "kind": "HealthChanged", "backend": "a", "endpoint": "a.example:80", "old": "Unknown", "new": "Unhealthy",
            "reason": "Refused", "message": "it refuses connections",
        }  # fmt: skip
        gateway.state.fell_back("chat", "a", "b", "Refused", "r-1")
        fell = await following(stream)
        assert abs(fell.pop("at") - time.time()) < 30
        assert fell == {
            "kind": "FellBack", "route": "chat", "from": "a", "to": "b", "reason": "Refused", "requestId": "r-1"
        }  # fmt: skip
        gateway.state.set_table(table("a"))
        changed = await following(stream)
        assert (changed["kind"], changed["backends"], changed["routes"]) == ("TableChanged", {"a": 3}, {"chat": 2})
        assert SECRET not in str((change, fell, changed))


async def test_a_slow_reader_is_told_how_many_it_lost_and_gets_the_newest() -> None:
    async with serving("a", "b") as gateway, gateway.http.get("/v1/events") as answer:
        stream = events(answer)
        await following(stream)
        for i in range(QUEUE_LIMIT + 500):
            gateway.state.fell_back("chat", "a", "b", "Refused", str(i))
        lost = await following(stream)
        assert (lost["kind"], lost["count"]) == ("Lost", 500)
        assert [(await following(stream))["requestId"] for _ in range(QUEUE_LIMIT)] == [
            str(i) for i in range(500, QUEUE_LIMIT + 500)
        ]


async def test_one_slow_reader_costs_the_others_nothing() -> None:
    state = GatewayState("g", table=table("a", "b"))
    broadcast = Broadcast(state, queue_limit=2)
    slow, quick = broadcast.stream(), broadcast.stream()
    await anext(slow), await anext(quick)
    for i in range(5):
        state.fell_back("chat", "a", "b", "Refused", str(i))
        assert b'"requestId":"%d"' % i in await anext(quick)
    assert b'"count":3' in await anext(slow)
    await slow.aclose()
    await quick.aclose()
    assert state._subscribers == [], "nobody listens: nothing is built"


async def test_a_quiet_stream_beats_and_ends_with_the_gateway() -> None:
    broadcast = Broadcast(GatewayState("g"), heartbeat=0.05)
    stream = broadcast.stream()
    await anext(stream)
    assert await asyncio.wait_for(anext(stream), 30) == b": still here\n\n"
    broadcast.close()
    assert [frame async for frame in stream] == []


async def test_a_real_fallback_is_heard(tmp_path: Path) -> None:
    async with Engine(openai_engine.replies("one")) as one, Engine(openai_engine.replies("two")) as two:
        (tmp_path / "a.yaml").write_text(backend("one", one.port) + backend("two", two.port) + route("one", "two"))
        async with (
            gateway_process(tmp_path) as gateway,
            aiohttp.ClientSession() as http,
            http.get(f"{gateway.admin}/v1/events") as answer,
        ):
            stream = events(answer)
            await following(stream)
            one.replies[openai_engine.CHAT] = Reply(500, "down")
            body = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}
            async with http.post(f"{gateway.url}/v1/chat/completions", json=body) as asked:
                assert asked.headers["x-pointsman-backend"] == "two"
                request_id = asked.headers["x-request-id"]
            while (event := await following(stream))["kind"] != "FellBack":
                assert event["kind"] == "HealthChanged"
            assert (event["from"], event["to"], event["requestId"]) == ("one", "two", request_id)
