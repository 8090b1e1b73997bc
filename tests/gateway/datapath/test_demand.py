"""What a gateway tells of the demand for a backend: the operator gives it pods, or takes them, by nothing else."""

from __future__ import annotations

import asyncio
import time

import pytest
from tests.support.engine import until
from tests.support.raw_client import chat
from tests.support.running_gateway import Running, gateway, ollama, route, table
from tests.support.simulated import Gate, Simulated, simulated

from pointsman.api.objects import LLMBackend, ModelRoute
from pointsman.domain.probed import Probed, ProbeOutcome
from pointsman.domain.report import BackendHealth, decode
from pointsman.domain.table import RoutingTable
from pointsman.gateway.insight import reporting
from pointsman.gateway.insight.events import Wanted


def pods(ports: dict[str, list[int]], *targets: LLMBackend, **fallback: object) -> RoutingTable:
    """A route to all of `targets`, the first one first; those of ours have the pods that `ports` says."""
    return table(list(targets), [route(*(t.meta.name for t in targets), **fallback)], ports)


def said(g: Running, backend: str) -> BackendHealth:
    (found,) = [b for b in g.state.report_snapshot().backends if b.name == backend]
    return found


def wanted(g: Running) -> list[str]:
    return [e.backend for e in g.events if isinstance(e, Wanted)]


async def test_a_request_for_a_cold_first_choice_is_told_at_once_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporting, "FIGURES_SECONDS", 100.0)
    async with simulated("b") as b, gateway(pods({}, ollama("cold"), b.backend())) as g:
        reports = reporting.Reports(g.state, heartbeat=100.0)
        stream = reports.stream()
        assert decode(await anext(stream)).backends[0].active_at == 0.0
        for _ in range(5):
            assert (await chat(g.port)).headers["x-pointsman-backend"] == "b"
        report = decode(await asyncio.wait_for(anext(stream), 30))  # it does not wait for the time of figures
        assert abs(report.backends[0].active_at - time.time()) < 30
        assert wanted(g) == ["cold"]
        await stream.aclose()


async def test_each_time_it_gets_cold_it_is_told_anew() -> None:
    async with simulated("a") as a, simulated("b") as b:
        cold, warm = pods({}, ollama("p"), b.backend()), pods({"p": [a.port]}, ollama("p"), b.backend())
        async with gateway(cold) as g:
            await chat(g.port)
            g.state.set_table(warm)
            assert (await chat(g.port)).headers["x-pointsman-backend"] == "p"
            g.state.set_table(cold)
            assert g.state.wanted == {}
            await chat(g.port)
        assert wanted(g) == ["p", "p"]


async def test_a_cold_fallback_that_is_not_needed_is_not_wanted() -> None:
    async with simulated("a") as a, gateway(pods({}, a.backend(), ollama("cold"))) as g:
        for _ in range(3):
            await chat(g.port)
        assert wanted(g) == []
        g.machine("a").flags.drill_until = g.state.clock() + 60
        g.machine("a").clear = False
        await chat(g.port)
        assert wanted(g) == ["cold"], "the first choice cannot serve"


async def test_a_cold_target_beside_a_warm_one_is_wanted_when_the_warm_one_is_full() -> None:
    gate = Gate()
    async with simulated("a", gate) as a:
        limits = {"maxInFlight": 1, "maxQueued": 0}
        listed = [{"backend": name, "model": "m", "priority": 0} for name in ("a", "cold")]
        both = ModelRoute.parse({"metadata": {"name": "r"}, "spec": {"models": ["chat"], "targets": listed}})
        async with gateway(table([a.backend(limits=limits), ollama("cold")], [both], {})) as g:
            first = asyncio.create_task(chat(g.port))
            await a.until(lambda: a.now == 1)
            assert wanted(g) == []
            assert (await chat(g.port)).status == 503
            assert wanted(g) == ["cold"]
            gate.let()
            await first


async def test_an_external_backend_is_never_wanted() -> None:
    async with simulated("b") as b:
        broken = Simulated("gone", ())
        broken.port = 9
        gone = broken.backend(external={"url": "https://127.0.0.1:9/v1", "caBundleRef": {"name": "missing"}})
        async with gateway(pods({}, gone, b.backend())) as g:
            assert (await chat(g.port)).headers["x-pointsman-backend"] == "b"
            assert wanted(g) == []


async def test_requests_in_flight_and_held_are_counted_and_the_last_activity_is_told() -> None:
    gate = Gate()
    async with simulated("a", gate) as a, gateway(pods({}, ollama("p"), whileCold="Hold")) as g:
        tasks = [asyncio.create_task(chat(g.port)) for _ in range(3)]
        await until(lambda: len(g.state.held) == 3)
        assert (said(g, "p").waiting, said(g, "p").requests, said(g, "p").active_at) == (3, 3, 0.0)
        g.state.set_table(pods({"p": [a.port]}, ollama("p"), whileCold="Hold"))
        await a.until(lambda: a.now == 3)
        assert (said(g, "p").waiting, said(g, "p").requests) == (0, 3)
        gate.let(3)
        await asyncio.gather(*tasks)
        await until(lambda: said(g, "p").requests == 0)
        assert abs(said(g, "p").active_at - time.time()) < 30


async def test_requests_that_wait_for_a_slot_are_counted() -> None:
    gate = Gate()
    async with simulated("a", gate) as a:
        body = {"engine": "Ollama", "models": [{"name": "m", "source": "ollama://m:1"}], "limits": {"maxInFlight": 1}}
        limited = LLMBackend.parse({"metadata": {"name": "p"}, "spec": body})
        async with gateway(pods({"p": [a.port]}, limited)) as g:
            tasks = [asyncio.create_task(chat(g.port)) for _ in range(4)]
            await until(lambda: len(g.state.waiting) == 3)
            assert (said(g, "p").waiting, said(g, "p").requests) == (3, 4)
            gate.let(4)
            await asyncio.gather(*tasks)


async def test_checks_are_no_activity() -> None:
    async with simulated("a") as a, gateway(pods({"p": [a.port]}, ollama("p"))) as g:
        (endpoint,) = g.state.table.backends["p"].endpoints
        good = Probed(ProbeOutcome.OK, g.state.clock(), 3.0)
        g.state.observe_probe(endpoint.key, good)
        g.state.observe_generation(endpoint.key, good)
        assert (said(g, "p").requests, said(g, "p").active_at) == (0, 0.0)


async def test_a_backend_that_comes_back_takes_over_by_a_ramp() -> None:
    """Its first request may have to wait for the model to be loaded: the others go where it is loaded."""
    gate = Gate()
    async with simulated("a", gate) as a, simulated("b") as b:
        cold, warm = pods({}, ollama("p"), b.backend()), pods({"p": [a.port]}, ollama("p"), b.backend())
        async with gateway(cold) as g:
            await chat(g.port)
            g.state.set_table(warm)
            first = asyncio.create_task(chat(g.port))
            await a.until(lambda: a.now == 1)
            got = await asyncio.gather(*(chat(g.port) for _ in range(5)))
            assert {x.headers["x-pointsman-backend"] for x in got} == {"b"}
            gate.let()
            assert (await first).headers["x-pointsman-backend"] == "p"
            two = [asyncio.create_task(chat(g.port)) for _ in range(5)]
            await a.until(lambda: a.now == 2)
            gate.let(100)
            await asyncio.gather(*two)
            for _ in range(20):
                assert (await chat(g.port)).headers["x-pointsman-backend"] == "p"
            assert g.machine("p").clear


async def test_the_ramp_turns_nobody_away_who_has_nowhere_else_to_go() -> None:
    gate = Gate()
    async with simulated("a", gate) as a, gateway(pods({}, ollama("p"))) as g:
        assert (await chat(g.port)).status == 503
        g.state.set_table(pods({"p": [a.port]}, ollama("p")))
        tasks = [asyncio.create_task(chat(g.port)) for _ in range(4)]
        await a.until(lambda: a.now == 4)
        gate.let(4)
        assert {x.status for x in await asyncio.gather(*tasks)} == {200}


async def test_a_pod_beside_a_warm_one_needs_no_ramp() -> None:
    async with simulated("a") as a, simulated("c") as c, gateway(pods({"p": [a.port]}, ollama("p"))) as g:
        assert not g.machine("p").fresh, "a gateway that starts finds what is there"
        g.state.set_table(pods({"p": [a.port, c.port]}, ollama("p")))
        assert not g.machine("p", 1).fresh
