"""`Server-Timing` of every answer: each attempt with what became of it and its milliseconds."""

from __future__ import annotations

import re
import time
from typing import Any

from tests.support.raw_client import Got, chat
from tests.support.running_gateway import external, gateway, route, table
from tests.support.upstream import says

from pointsman.simulator.behaviour import answers
from pointsman.simulator.openai_bytes import error


def attempts(got: Got) -> list[tuple[str, float]]:
    """What was attempted, and its milliseconds."""
    rows = re.findall(r'pm-(\d+);desc="([^"]+)";dur=([0-9.]+)(?:, |$)', got.headers["server-timing"])
    assert [n for n, _, _ in rows] == [str(i + 1) for i in range(len(rows))]
    return [(what, float(ms)) for _, what, ms in rows]


def at(name: str, upstream: Any) -> Any:
    return external(name, f"http://127.0.0.1:{upstream.port}/v1")


async def test_the_usual_answer_has_one_attempt(upstream: Any) -> None:
    a = await upstream(says("ok"))
    async with gateway(table([at("a", a)], [route("a")])) as g:
        for stream in (False, True):
            began = time.monotonic()
            ((what, ms),) = attempts(await chat(g.port, stream=stream))
            assert what == "a"
            assert 0 <= ms < (time.monotonic() - began) * 1000


async def test_a_fallback_shows_what_it_cost(upstream: Any) -> None:
    a, b, c = await upstream(says("a")), await upstream(answers(500, error("boom"))), await upstream(says("c"))
    await a.stop()
    async with gateway(table([at("a", a), at("b", b), at("c", c)], [route("a", "b", "c")])) as g:
        for stream in (False, True):
            got = await chat(g.port, stream=stream)
            rows = attempts(got)
            assert rows[-1][0] == "c"
            assert rows[-2][0] == "b Failure/ServerError"
            assert len(rows) == int(got.headers["x-pointsman-attempts"])
        first = (await chat(g.port)).headers["server-timing"]
        assert "http" not in first
        assert "127.0.0.1" not in first


async def test_who_gives_up_shows_every_attempt(upstream: Any) -> None:
    a, b = await upstream(answers(429, error("busy"))), await upstream(answers(401, error("no key")))
    async with gateway(table([at("a", a), at("b", b)], [route("a", "b")])) as g:
        got = await chat(g.port)
        assert [what for what, _ in attempts(got)] == ["a Busy/RateLimited", "b Denied/Unauthorized"]
        again = await chat(g.port)
        assert again.headers["x-pointsman-attempts"] == "0"
        assert "server-timing" not in again.headers


async def test_a_refusal_that_is_passed_on_shows_its_attempt(upstream: Any) -> None:
    a = await upstream(answers(400, error("temperature must be at most 2", kind="invalid_request_error")))
    async with gateway(table([at("a", a)], [route("a")])) as g:
        got = await chat(g.port)
        assert got.status == 400
        assert [what for what, _ in attempts(got)] == ["a Caller/BadRequest"]
