"""`pointsman explain` and what else is told of rules: drills, reports, and the figures behind an order."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import yaml
from tests.gateway.test_admin import Gateway, serving
from tests.support import openai_engine
from tests.support.asked import backend, route
from tests.support.engine import Engine
from tests.support.gateway_process import gateway_process
from tests.support.running_gateway import table

RULES = [{"match": {"headers": [{"name": "x-team", "value": "a"}]}, "targets": ["c", "b"]}]


async def explain(admin: str, *arguments: str) -> tuple[int, str, str]:
    """The command as people run it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pointsman", "explain", "--admin", admin, *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode or 0, out.decode(), err.decode()


async def test_the_command_takes_headers_task_and_id(tmp_path: Path) -> None:
    async with Engine(openai_engine.replies("one")) as one:
        spec = {
            "models": ["chat", "gpt*"],
            "strategy": "Weighted",
            "rules": [{"match": {"taskTypes": ["Planning"], "headers": [{"name": "x-team", "value": "a"}]},
                       "targets": [{"backend": "one", "model": "small"}]}],
            "targets": [{"backend": n, "model": "small", "weight": w} for n, w in (("one", 3), ("two", 1))],
        }  # fmt: skip
        documents = [{"kind": "ModelRoute", "metadata": {"name": "r"}, "spec": spec}] + [
            {"kind": "LLMBackend", "metadata": {"name": name}, "spec": {"engine": "External",
             "external": {"url": f"http://127.0.0.1:{one.port}/v1"}, "models": [{"name": "small"}]}}
            for name in ("one", "two")
        ]  # fmt: skip
        for document in documents:
            document["apiVersion"] = "pointsman.dev/v1alpha1"
        (tmp_path / "a.yaml").write_text(yaml.safe_dump_all(documents))
        async with gateway_process(tmp_path) as gateway:
            asked = ("--header", "x-team: a", "--task-type", "planning", "-o", "json")
            code, out, err = await explain(gateway.admin, "gpt-4", *asked)
            assert code == 0, err
            found = json.loads(out)
            assert (found["rule"], found["name"], found["taskType"]) == (0, "gpt*", "planning")
            assert [c["backend"] for c in found["candidates"]] == ["one"]

            same = await asyncio.gather(
                *(explain(gateway.admin, "chat", "--request-id", "r-1", "-o", "json") for _ in range(2))
            )
            orders = [[c["backend"] for c in json.loads(out)["candidates"]] for _, out, _ in same]
            assert orders[0] == orders[1], "one id, one order"
            assert sorted(orders[0]) == ["one", "two"]

            code, out, _ = await explain(gateway.admin, "gpt-4", "--request-id", "r-1")
            assert out.startswith("gpt-4 (as gpt*) is answered by route r:")
            assert "weight 3 of 4: 75 %" in " ".join(out.split())
            assert "chance by request id r-1" in " ".join(out.split())
            code, _, err = await explain(gateway.admin, "chat", "--task-type", "poetry")
            assert code != 0
            assert "task_type must be one of code_generation" in err


async def ruled(gateway: Gateway) -> None:
    gateway.state.set_table(table([backend(n) for n in "abc"], [route(["a", "b"], rules=RULES)]))


async def test_a_report_tells_of_targets_that_only_a_rule_names() -> None:
    async with serving("a") as gateway:
        await ruled(gateway)
        report = gateway.state.report_snapshot().routes[0]
        assert [t.backend for t in report.targets] == ["a", "b", "c"]
        assert report.serving
        for name in "bc":
            gateway.eject(name)
        report = gateway.state.report_snapshot().routes[0]
        assert [t.state for t in report.targets] == ["Unknown", "Unhealthy", "Unhealthy"]
        assert not report.serving, "requests of the rule would find nobody"


async def test_a_drill_leaves_no_rule_without_a_target() -> None:
    async def drill(name: str) -> tuple[int, str]:
        body = {"route": "r", "backend": name, "seconds": 30}
        async with gateway.http.post("/v1/drill", json=body) as answer:
            return answer.status, await answer.text()

    async with serving("a") as gateway:
        await ruled(gateway)
        gateway.eject("b")
        status, text = await drill("c")
        assert status == 409
        assert "would be left without a target" in text
        await ruled(gateway)
        gateway.state.health.adopt(table([], []), 0.0)
        await ruled(gateway)
        assert (await drill("c"))[0] == 200
        found = (await gateway.explain({"model": "chat"}, headers={"X-Team": "a"}))[1]
        assert [c["backend"] for c in found["candidates"]] == ["b"]
        assert [(e["backend"], e["reason"]) for e in found["excluded"]] == [("c", "Drill")]


async def test_explain_shows_the_figures_that_decided() -> None:
    async with serving("a") as gateway:
        await ruled(gateway)
        now = gateway.state.clock()
        keys = {n: gateway.state.table.backends[n].endpoints[0].key for n in "ab"}
        gateway.state.health.observe_success(keys["a"], "m", 120.0, now, stream=True)
        machine = gateway.state.health.machine(keys["b"])
        assert machine is not None
        machine.begin()
        _, found = await gateway.explain({"model": "chat", "stream": True})
        figures: dict[str, Any] = {c["backend"]: c["figures"][0] for c in found["candidates"]}
        assert (figures["a"]["inFlight"], figures["a"]["latencyMs"]) == (0, 120.0)
        assert (figures["b"]["inFlight"], figures["b"]["latencyMs"]) == (1, None)
        assert found["candidates"][0]["reason"] == "usable; 0 in flight, first token after 120 ms"
        assert (found["strategy"], found["rule"], found["stream"]) == ("Auto", None, True)


async def test_explain_knows_the_other_operations() -> None:
    async with serving("a") as gateway:
        backends = [
            backend("chat", model={"capabilities": ["Chat"]}),
            backend("vectors", model={"capabilities": ["Embeddings"]}),
        ]
        gateway.state.set_table(table(backends, [route(["chat", "vectors"])]))
        status, found = await gateway.explain({"model": "chat", "input": "hi"}, params={"path": "/v1/embeddings"})
        assert status == 200
        assert [c["backend"] for c in found["candidates"]] == ["vectors"]
        assert found["needs"] == ["Embeddings"]
        assert [c["backend"] for c in (await gateway.explain({"model": "chat"}))[1]["candidates"]] == ["chat"]
        status, found = await gateway.explain({"model": "chat"}, params={"path": "/v1/poems"})
        assert status == 400
        assert "/v1/embeddings" in found["error"]["message"]


async def test_explain_heeds_what_requests_have_taught() -> None:
    async with serving("a") as gateway:
        await ruled(gateway)
        state = gateway.state
        state.learnt.unknown.add("a", "responses", state.clock())
        asked = {"model": "chat", "input": "hi"}
        _, found = await gateway.explain(asked, params={"path": "/v1/responses"})
        assert [c["backend"] for c in found["candidates"]] == ["b"]
        assert [(e["backend"], e["reason"]) for e in found["excluded"]] == [("a", "UnknownOperation")]
        _, found = await gateway.explain({"model": "chat"})
        assert sorted(c["backend"] for c in found["candidates"]) == ["a", "b"], "another operation"

        state.learnt.unknown.forget()
        state.learnt.kept.remember("resp_1", state.table.backends["b"].endpoints[0].key)
        _, found = await gateway.explain(asked | {"previous_response_id": "resp_1"}, params={"path": "/v1/responses"})
        assert [c["backend"] for c in found["candidates"]] == ["b"]
        assert [(e["backend"], e["reason"]) for e in found["excluded"]] == [("a", "Elsewhere")]


async def test_explain_says_how_many_events_came_before_it() -> None:
    async with serving("a", "b") as gateway:
        before = (await gateway.explain({"model": "chat"}))[1]["events"]
        assert (await gateway.explain({"model": "chat"}))[1]["events"] == before, "nothing changed"
        gateway.eject("a")
        assert (await gateway.explain({"model": "chat"}))[1]["events"] > before
