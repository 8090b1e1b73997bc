"""The check by one token against a real Ollama: it keeps no model longer, loads none, and finds a frozen engine."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.models.helpers import pull_noise
from tests.support.engine import until
from tests.support.registry import TinyRegistry
from tests.support.running_gateway import Recorder

from pointsman.api.objects import LLMBackend
from pointsman.domain.compiling import compile_table
from pointsman.domain.health import EndpointMachine, State
from pointsman.domain.table import PodEndpoint, RoutingTable
from pointsman.gateway.probes.prober import Prober
from pointsman.gateway.state import GatewayState

# The first run on a machine builds Ollama, which takes minutes.
pytestmark = pytest.mark.timeout(1800)

KEPT = 300.0
"""Seconds that the server keeps an unused model: Ollama's default."""


@pytest.fixture
async def state() -> AsyncIterator[GatewayState]:
    state = GatewayState("test", meter=Recorder())
    prober = Prober(state)
    await prober.start()
    yield state
    await prober.close()


def table(ollama: httpx.AsyncClient, model: str, digest: str, timeout: str = "30s") -> RoutingTable:
    body = {
        "metadata": {"name": "local"},
        "spec": {
            "engine": "Ollama", "models": [{"name": "tiny", "source": model}], "ollama": {"keepAlive": f"{KEPT:g}s"},
            "probe": {
                "interval": "200ms", "failureThreshold": 2, "generation": {"interval": "1s", "timeout": timeout},
            },
        },
        "status": {"models": [{"name": "tiny", "digest": digest}]},
    }  # fmt: skip
    pods = {"local": (PodEndpoint("uid-1", "127.0.0.1", ollama.base_url.port or 0),)}
    return compile_table([LLMBackend.parse(body)], [], pods, {})


def machine(state: GatewayState) -> EndpointMachine:
    found = state.health.machine("uid-1")
    assert found is not None
    return found


def outcomes(state: GatewayState) -> list[str]:
    assert isinstance(state.meter, Recorder)
    return [outcome for _, outcome in state.meter.generations]


async def leaves(ollama: httpx.AsyncClient) -> float | None:
    """When the model leaves memory, by our clock; None when it is not there."""
    models: list[Any] = (await ollama.get("/api/ps")).json()["models"]
    return datetime.fromisoformat(models[0]["expires_at"]).astimezone(UTC).timestamp() if models else None


async def chat(ollama: httpx.AsyncClient, model: str) -> None:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
    assert (await ollama.post("/v1/chat/completions", json=body)).status_code == 200


async def test_a_check_loads_nothing_and_keeps_nothing_longer(
    ollama: httpx.AsyncClient, registry: TinyRegistry, store: Path, state: GatewayState
) -> None:
    pulled = await pull_noise(registry, store, name="demo/tiny:1")
    state.set_table(table(ollama, f"ollama+http://{registry.host}/demo/tiny:1", pulled.digest))
    await until(lambda: outcomes(state).count("Unsupported") >= 2, 60, "checks while nothing is loaded")
    assert await leaves(ollama) is None, "no check loaded it"

    await chat(ollama, pulled.served_name)
    state.health.observe_success("uid-1", pulled.served_name, 5.0, state.clock())
    first = await leaves(ollama)
    assert first is not None
    assert abs(first - time.time() - KEPT) < 10, "the server's own time"
    for n in range(1, 5):
        await until(lambda n=n: outcomes(state).count("Ok") >= n, 20, "a token")  # type: ignore[misc]
        now = await leaves(ollama)
        assert now is not None
        assert -10.0 < now - first < 5.0, "neither longer nor much shorter"

    await chat(ollama, pulled.served_name)
    state.health.observe_success("uid-1", pulled.served_name, 5.0, state.clock())
    answered = time.time()
    tokens = outcomes(state).count("Ok")
    await until(lambda: outcomes(state).count("Ok") > tokens, 20, "the check after the answer")
    after = await leaves(ollama)
    assert after is not None
    assert abs(after - answered - KEPT) < 10, "a real answer has its whole time, whatever checks said before it"
    assert machine(state).state is State.HEALTHY


async def test_a_frozen_engine_is_found_out_and_comes_back(
    ollama: httpx.AsyncClient, registry: TinyRegistry, store: Path, state: GatewayState
) -> None:
    """The server process answers version, tags and ps all the while."""
    pulled = await pull_noise(registry, store, name="demo/tiny:1")
    await chat(ollama, pulled.served_name)
    (runner,) = runners(store)
    os.kill(runner, signal.SIGSTOP)
    try:
        began = time.monotonic()
        state.set_table(table(ollama, f"ollama+http://{registry.host}/demo/tiny:1", pulled.digest, timeout="1s"))
        await until(lambda: machine(state).state is State.UNHEALTHY, 30, "the frozen engine is found out")
        print(f"found out after {time.monotonic() - began:.1f} s")
        assert machine(state).reason == "GenerationTimeout"
        assert (await ollama.get("/api/tags")).status_code == 200
        await asyncio.sleep(1)
        assert machine(state).state is State.UNHEALTHY
    finally:
        os.kill(runner, signal.SIGCONT)
    await until(lambda: machine(state).state is State.PROBATION, 30, "it generates again")


def runners(store: Path) -> list[int]:
    """Process ids of Ollama's runners that serve a model of this store."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                words = (process / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"runner" in words and any(str(store).encode() in w for w in words):
                found.append(int(process.name))
    return found
