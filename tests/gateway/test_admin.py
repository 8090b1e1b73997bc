"""The admin port over real HTTP: readiness, figures, explanations, reports; and no secret anywhere."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from pointsman.api.objects import LLMBackend, ModelRoute
from pointsman.domain.compiling import compile_table
from pointsman.domain.probed import Probed, ProbeOutcome
from pointsman.domain.report import GatewayReport, decode
from pointsman.domain.table import RoutingTable, SecretValue
from pointsman.gateway.admin import Admin
from pointsman.gateway.insight import reporting
from pointsman.gateway.insight.metrics import GatewayMeter, registry_of
from pointsman.gateway.insight.record import RequestRecord
from pointsman.gateway.insight.reporting import Reports
from pointsman.gateway.sources.source import SourceStatus
from pointsman.gateway.state import GatewayState

SECRET = "sk-sesame"


def table(*names: str) -> RoutingTable:
    backends = [
        LLMBackend.parse(
            {
                "metadata": {"name": name, "generation": 3},
                "spec": {
                    "engine": "External",
                    "models": [{"name": "small"}],
                    "external": {"url": f"http://{name}.example/v1", "secretRef": {"name": "key"}},
                },
            }
        )
        for name in names
    ]
    targets = [{"backend": name, "model": "small", "priority": i} for i, name in enumerate((*names, "away"))]
    spec = {"models": ["chat", "gpt"], "targets": targets}
    route = ModelRoute.parse({"metadata": {"name": "chat", "generation": 2}, "spec": spec})
    return compile_table(backends, [route], {}, {"key": SecretValue("1", {"api-key": SECRET})})


@dataclass
class Gateway:
    state: GatewayState
    status: SourceStatus
    meter: GatewayMeter
    admin: Admin
    http: aiohttp.ClientSession

    async def get(self, path: str, **options: Any) -> tuple[int, Any]:
        async with self.http.get(path, **options) as answer:
            return answer.status, await _body(answer)

    async def explain(self, body: Any, **options: Any) -> tuple[int, Any]:
        async with self.http.post("/v1/explain", data=json.dumps(body).encode(), **options) as answer:
            return answer.status, await _body(answer)

    def eject(self, backend: str) -> None:
        endpoint = self.state.table.backends[backend].endpoints[0]
        for _ in range(3):
            probed = Probed(ProbeOutcome.FAILED, self.state.clock(), reason="Refused", message="it refuses connections")
            self.state.observe_probe(endpoint.key, probed)


async def _body(answer: aiohttp.ClientResponse) -> Any:
    return await answer.json() if answer.content_type == "application/json" else await answer.text()


@asynccontextmanager
async def serving(*names: str, token: str | None = None, heartbeat: float = 15.0) -> AsyncIterator[Gateway]:
    meter = GatewayMeter()
    state = GatewayState("gateway-0", meter=meter)
    status = SourceStatus("manifests", "/models")
    if names:
        state.set_table(table(*names))
        status.succeeded()
    admin = Admin(state, status, registry_of(meter, state, status), Reports(state, heartbeat=heartbeat), token=token)
    await admin.start("127.0.0.1", 0)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{admin.port}") as http:
        yield Gateway(state, status, meter, admin, http)
    await admin.close()


async def test_ready_with_a_table_and_until_draining() -> None:
    async with serving() as gateway:
        assert (await gateway.get("/healthz"))[0] == 200
        assert await gateway.get("/readyz") == (503, "no table from manifests /models yet\n")
        gateway.state.set_table(table("a"))
        gateway.status.succeeded()
        assert (await gateway.get("/readyz"))[0] == 200
        gateway.status.failed(("a.yaml:1: bad",))
        assert (await gateway.get("/readyz"))[0] == 200, "the last good table serves"
        gateway.admin.draining = True
        assert await gateway.get("/readyz") == (503, "draining\n")
        assert (await gateway.get("/healthz"))[0] == 200


async def test_config_tells_what_is_wrong_with_the_last_reading() -> None:
    async with serving("a") as gateway:
        _, body = await gateway.get("/v1/config")
        assert (body["source"], body["loaded"], body["lastReloadSuccessful"], body["problems"]) == (
            "manifests",
            True,
            True,
            [],
        )
        gateway.status.failed(("a.yaml:1: bad",))
        _, body = await gateway.get("/v1/config")
        assert (body["loaded"], body["lastReloadSuccessful"], body["problems"]) == (True, False, ["a.yaml:1: bad"])
        assert body["backends"] == 1


async def test_backends_tell_health_models_and_the_name_of_the_secret() -> None:
    async with serving("a", "b") as gateway:
        gateway.eject("a")
        _, body = await gateway.get("/v1/backends")
        first = body["backends"][0]
        assert (first["name"], first["state"], first["reason"]) == ("a", "Unhealthy", "Refused")
        assert (first["engine"], first["models"], first["secret"]) == ("External", ["small"], "key")
        assert first["endpoints"][0]["message"] == "it refuses connections"
        states = [(t["backend"], t["state"]) for t in body["routes"][0]["targets"]]
        assert states == [("a", "Unhealthy"), ("b", "Unknown"), ("away", "BackendNotFound")]
        assert body["routes"][0]["models"] == ["chat", "gpt"]


async def test_explain_orders_and_excludes_with_reasons() -> None:
    async with serving("a", "b") as gateway:
        _, before = await gateway.explain({"model": "gpt", "messages": []})
        assert [c["backend"] for c in before["candidates"]] == ["a", "b"]
        assert (before["route"], before["fallback"], before["maxAttempts"]) == ("chat", True, 3)
        gateway.eject("a")
        _, after = await gateway.explain({"model": "gpt"})
        assert [(c["backend"], c["place"]) for c in after["candidates"]] == [("b", "Priority")]
        assert [(e["backend"], e["reason"]) for e in after["excluded"]] == [
            ("a", "Unhealthy"),
            ("away", "BackendNotFound"),
        ]
        assert "refuses connections" in after["excluded"][0]["message"]
        _, alone = await gateway.explain({"model": "gpt"}, headers={"x-pointsman-fallback": "none"})
        assert (alone["fallback"], [c["place"] for c in alone["candidates"]]) == (False, ["LeastBad"])


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({"model": "nope"}, 404, "no route answers for the model nope; the names are: chat, gpt"),
        ({"messages": []}, 400, "the field model is missing: it names the model to use"),
        ([], 400, "the body must be a JSON object"),
        ({"model": "chat", "task_type": "x"}, 400, "task_type must be one of code_generation, "),
    ],
)
async def test_explain_says_what_it_cannot_explain(body: Any, status: int, says: str) -> None:
    async with serving("a") as gateway:
        got, answer = await gateway.explain(body)
        assert got == status
        assert answer["error"]["message"].startswith(says)


async def reports(answer: aiohttp.ClientResponse) -> AsyncIterator[GatewayReport]:
    async for line in answer.content:
        if line.startswith(b"data: "):
            report = decode(line.removeprefix(b"data: "))
            assert isinstance(report, GatewayReport)
            yield report


async def test_report_wants_its_token() -> None:
    async with serving("a", token="t-1") as gateway:
        assert (await gateway.get("/v1/report"))[0] == 401
        assert (await gateway.get("/v1/report", headers={"Authorization": "Bearer t-2"}))[0] == 401
        async with gateway.http.get("/v1/report", headers={"Authorization": "Bearer t-1"}) as answer:
            assert answer.content_type == "text/event-stream"
            report = await anext(reports(answer))
        assert (report.gateway, report.backends[0].generation, report.routes[0].generation) == ("gateway-0", 3, 2)
        assert (await gateway.get("/v1/backends"))[0] == 200


async def test_report_tells_changes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporting, "FIGURES_SECONDS", 100.0)
    async with serving("a", "b", heartbeat=100.0) as gateway, gateway.http.get("/v1/report") as answer:
        stream = reports(answer)
        await anext(stream)
        gateway.eject("a")
        told = await asyncio.wait_for(anext(stream), 30)  # not when figures are due
        assert told.backends[0].state == "Unhealthy"


async def test_report_tells_nothing_twice() -> None:
    async with serving("a", "b") as gateway, gateway.http.get("/v1/report") as answer:
        stream = reports(answer)
        await anext(stream)
        gateway.eject("a")
        assert (await asyncio.wait_for(anext(stream), 30)).backends[0].state == "Unhealthy"
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(stream), 2.5)


async def test_report_gathers_fallbacks_to_one_a_second() -> None:
    async with serving("a", "b") as gateway, gateway.http.get("/v1/report") as answer:
        stream = reports(answer)
        await anext(stream)
        for i in range(200):
            gateway.state.fell_back("chat", "a", "b", "Failure", f"r-{i}")
        report = await asyncio.wait_for(anext(stream), 30)
        assert report.routes[0].last_fallback is not None
        assert (report.routes[0].last_fallback.count, report.routes[0].last_fallback.request_id) == (200, "r-199")


async def test_report_beats_without_a_change_and_ends_with_the_gateway() -> None:
    async with serving("a", heartbeat=0.2) as gateway, gateway.http.get("/v1/report") as answer:
        stream = reports(answer)
        first, second = await anext(stream), await asyncio.wait_for(anext(stream), 30)
        assert second.at > first.at
        assert second.backends == first.backends
        await gateway.admin.close()
        async with asyncio.timeout(30):
            [report async for report in stream]


def record(**changes: Any) -> RequestRecord:
    values: dict[str, Any] = {
        "request_id": "r", "route": "chat", "model": "gpt", "status": 200, "stream": True, "ms": 120.0, "attempts": 2,
        "backend": "a", "verdict": "Success", "why": "Answered", "first_token_ms": 40.0, "overhead_us": 90,
        "prompt_tokens": 11, "completion_tokens": None,
    }  # fmt: skip
    return RequestRecord(**{**values, **changes})


async def test_metrics_count_what_the_data_path_meters() -> None:
    async with serving("a", "b") as gateway:
        meter = gateway.state.meter
        for r in (record(), record(completion_tokens=5), record(route="", model="typo", status=404, backend="")):
            meter.request_started()
            meter.request_finished(r)
        meter.request_started()
        meter.attempt_finished("chat", "a", "small", "Failure", "Refused", 1.0)
        gateway.state.fell_back("chat", "a", "b", "Failure", "r")
        gateway.eject("b")
        gateway.status.failed(("bad",))
        _, text = await gateway.get("/metrics")
        families = {f.name: f for f in text_string_to_metric_families(text)}
        values = {(s.name, *sorted(s.labels.values())): s.value for f in families.values() for s in f.samples}
        assert values["pointsman_requests_total", "200", "chat"] == 2
        assert values["pointsman_requests_total", "", "404"] == 1
        assert values["pointsman_request_duration_seconds_bucket", "0.25", "chat"] == 2
        assert values["pointsman_request_duration_seconds_bucket", "0.1", "chat"] == 0
        assert values["pointsman_request_duration_seconds_count", "chat"] == 2
        assert values["pointsman_first_token_seconds_sum", "chat"] == pytest.approx(0.08)
        assert values["pointsman_overhead_seconds_count",] == 2
        assert values["pointsman_tokens_total", "a", "gpt", "input"] == 22
        assert values["pointsman_tokens_total", "a", "gpt", "output"] == 5
        assert values["pointsman_attempts_total", "Failure", "a"] == 1
        assert values["pointsman_fallbacks_total", "Failure", "a", "b", "chat"] == 1
        assert values["pointsman_requests_in_flight",] == 1
        assert values["pointsman_endpoint_health", "Unhealthy", "b", "b.example:80"] == 1
        assert values["pointsman_endpoint_health", "Unhealthy", "a", "a.example:80"] == 0
        assert values["pointsman_in_flight", "a"] == 0
        assert values["pointsman_config_last_reload_successful",] == 0
        assert values["pointsman_config_backends",] == 2
        assert "process_resident_memory_bytes" in families
        assert "typo" not in text


async def test_no_answer_holds_a_secret() -> None:
    async with serving("a", heartbeat=0.1) as gateway:
        gateway.eject("a")
        texts = [str(await gateway.get(path)) for path in ("/v1/config", "/v1/backends", "/metrics", "/readyz")]
        texts.append(str(await gateway.explain({"model": "chat"})))
        async with gateway.http.get("/v1/report") as answer:
            texts.append(str(await anext(reports(answer))))
        assert SECRET not in "".join(texts)
