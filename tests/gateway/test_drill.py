"""`POST /v1/drill` and `pointsman drill`: a fallback rehearsed on real sockets, bounded, and never an outage."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.gateway.test_admin import Gateway, serving, table
from tests.gateway.test_discover import chat
from tests.gateway.test_standalone import backend, route
from tests.support import openai_engine
from tests.support.engine import Engine
from tests.support.gateway_process import gateway_process

from pointsman.domain.candidates import order as order_of
from pointsman.domain.health import State
from pointsman.gateway.state import GatewayState


async def order(gateway: Gateway, body: Any, **options: Any) -> tuple[int, str]:
    async with gateway.http.post("/v1/drill", json=body, **options) as answer:
        return answer.status, await answer.text()


def ask(**changes: Any) -> dict[str, Any]:
    return {"route": "chat", "backend": "a", "seconds": 30, **changes}


async def test_a_drilled_backend_is_passed_over_with_its_reason_and_ends_by_itself() -> None:
    async with serving("a", "b") as gateway:
        now = 1000.0
        gateway.state.clock = lambda: now
        assert (await order(gateway, ask()))[0] == 200
        _, during = await gateway.explain({"model": "chat"})
        assert [c["backend"] for c in during["candidates"]] == ["b"]
        assert during["excluded"][0]["reason"] == "Drill"
        assert during["excluded"][0]["message"] == "a drill treats it as down, for another 30 s"
        machine = gateway.state.health.machine(gateway.state.table.backends["a"].endpoints[0].key)
        assert machine is not None
        assert machine.state is State.UNKNOWN, "health is what it was"
        now += 30.0
        _, after = await gateway.explain({"model": "chat"})
        assert [c["backend"] for c in after["candidates"]] == ["a", "b"]
        assert machine.clear


async def test_zero_seconds_end_it() -> None:
    async with serving("a", "b") as gateway:
        await order(gateway, ask())
        assert (await order(gateway, ask(seconds=0)))[0] == 200
        assert [c["backend"] for c in (await gateway.explain({"model": "chat"}))[1]["candidates"]] == ["a", "b"]


async def test_a_drill_is_never_an_outage() -> None:
    async with serving("a", "b") as gateway:
        gateway.eject("b")
        status, text = await order(gateway, ask())
        assert (status, "route chat would be left without a target" in text) == (409, True)
    async with serving("a", "b") as gateway:
        await order(gateway, ask())
        gateway.eject("b")
        _, shown = await gateway.explain({"model": "chat"})
        assert next((c["backend"], c["place"]) for c in shown["candidates"]) == ("a", "LeastBad")


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (ask(route="nope"), 404, "there is no ModelRoute nope"),
        (ask(backend="nope"), 404, "route chat has no target of nope; it has a, b"),
        (ask(seconds=121), 409, "seconds must be from 0"),
        (ask(seconds="long"), 409, "as JSON"),
        (ask(more=1), 409, "as JSON"),
    ],
)
async def test_a_drill_that_makes_no_sense_says_so(body: Any, status: int, says: str) -> None:
    async with serving("a", "b") as gateway:
        got, text = await order(gateway, body)
        assert (got, says in text) == (status, True)


async def test_a_web_page_cannot_begin_one() -> None:
    async with serving("a", "b") as gateway:
        for kind in ("text/plain", "application/x-www-form-urlencoded"):
            async with gateway.http.post("/v1/drill", data=json.dumps(ask()), headers={"Content-Type": kind}) as answer:
                assert answer.status == 415


def test_a_table_that_keeps_the_backend_keeps_the_drill() -> None:
    now = 0.0
    state = GatewayState("g", table=table("a", "b"), clock=lambda: now)
    state.health.drill("a", 10.0)
    state.set_table(table("a", "b"))
    found = order_of(state.table.names["chat"], state.health, now)
    assert [c.target.backend.name for c in found.candidates] == ["b"]


async def test_the_command_rehearses_and_reports(tmp_path: Path) -> None:
    async with Engine(openai_engine.replies("one")) as one, Engine(openai_engine.replies("two")) as two:
        (tmp_path / "a.yaml").write_text(backend("one", one.port) + backend("two", two.port) + route("one", "two"))
        async with gateway_process(tmp_path) as gateway:
            flags = ("--admin", gateway.admin, "--gateway", gateway.url)
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "pointsman", "drill", "chat", "--seconds", "4", *flags,
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
            out, err = await asyncio.wait_for(process.communicate(), 60)
            lines = out.decode().splitlines()
            assert process.returncode == 0, err.decode()
            assert lines[0] == "drill of route chat: one was treated as down for 4 s"
            assert lines[1].startswith("  before  answered by one")
            found = re.search(r"(\d) of (\d) requests answered: (\d) by two", lines[2])
            assert found
            assert "1" <= found[1] == found[2] == found[3] <= "4", "one a second at most"
            assert lines[3].startswith("  after   answered by one")
            assert lines[4] == "the fallback works"
            assert await chat(gateway, "chat") == (200, "one")
            text = "".join(gateway.log)
            assert "Traceback" not in text
