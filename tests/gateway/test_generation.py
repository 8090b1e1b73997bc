"""The check by one token against real sockets: an engine that listens and hangs, and when no token is asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web
from tests.support.engine import Engine, Reply, until
from tests.support.running_gateway import Recorder

from pointsman.api.objects import LLMBackend
from pointsman.domain.compiling import compile_table
from pointsman.domain.health import State
from pointsman.domain.table import PodEndpoint, RoutingTable, SecretValue
from pointsman.gateway.probes.prober import Prober
from pointsman.gateway.state import GatewayState

PROBE = {"interval": "100ms", "timeout": "20s", "failureThreshold": 2}
SHORT = {"timeout": "1s"}
"""For engines that are to hang."""
ANSWERED = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "1"}, "finish_reason": "length"}]}


def external(url: str, **generation: str) -> RoutingTable:
    probe = {**PROBE, "generation": {"interval": "200ms", "timeout": "20s", **generation}} if generation else PROBE
    body = {
        "metadata": {"name": "hosted"},
        "spec": {
            "engine": "External", "models": [{"name": "small"}, {"name": "large"}], "probe": probe,
            "external": {"url": url, "secretRef": {"name": "key"}},
        },
    }  # fmt: skip
    return compile_table([LLMBackend.parse(body)], [], {}, {"key": SecretValue("1", {"api-key": "sk-1"})})


def ollama(port: int, keep: str = "60s", **generation: str) -> RoutingTable:
    probe = {**PROBE, "generation": {"interval": "200ms", "timeout": "20s", **generation}}
    body = {
        "metadata": {"name": "local"},
        "spec": {
            "engine": "Ollama", "models": [{"name": "tiny", "source": "ollama://tiny:1b"}], "probe": probe,
            "ollama": {"keepAlive": keep},
        },
    }  # fmt: skip
    return compile_table([LLMBackend.parse(body)], [], {"local": (PodEndpoint("uid-1", "127.0.0.1", port),)}, {})


class FakeOllama:
    """What of Ollama the checks meet."""

    def __init__(self) -> None:
        self.left: dict[str, float] = {}
        """What is in memory, and for how many seconds."""
        self.asked: list[dict[str, Any]] = []
        self.hang = False

    async def ps(self, request: web.Request) -> web.Response:
        now = datetime.now(UTC).astimezone()
        models = [{"name": n, "expires_at": (now + timedelta(seconds=s)).isoformat()} for n, s in self.left.items()]
        return web.json_response({"models": models})

    async def generate(self, request: web.Request) -> web.Response:
        self.asked.append(await request.json())
        if self.hang:
            await asyncio.sleep(60)
        return web.json_response({"model": "tiny:1b", "response": "1", "done": True, "done_reason": "length"})

    def replies(self) -> dict[str, Any]:
        tags = Reply(body={"models": [{"name": "tiny:1b"}]})
        return {
            "/api/version": Reply(), "/api/tags": tags, "/api/ps": self.ps, "/api/generate": self.generate,
        }  # fmt: skip


async def left_alone(fake: FakeOllama) -> None:
    """Until it is asked for no token for three intervals. A check that was under way may still come."""
    for _ in range(5):
        asked = len(fake.asked)
        await asyncio.sleep(0.6)
        if len(fake.asked) == asked:
            return
    raise AssertionError("a model that is about to leave is asked again and again")


@pytest.fixture
async def state() -> AsyncIterator[GatewayState]:
    state = GatewayState("test", meter=Recorder())
    prober = Prober(state)
    await prober.start()
    yield state
    await prober.close()


def health(state: GatewayState) -> Any:
    (backend,) = state.table.backends.values()
    machine = state.health.machine(backend.endpoints[0].key)
    assert machine is not None
    return machine


async def test_an_engine_that_lists_its_models_and_hangs_is_found_out_and_comes_back(state: GatewayState) -> None:
    hang = True
    bodies: list[dict[str, Any]] = []

    async def chat(request: web.Request) -> web.Response:
        bodies.append(await request.json())
        if hang:
            await asyncio.sleep(60)
        return web.json_response(ANSWERED)

    async with Engine({"/v1/models": Reply(), "/v1/chat/completions": chat}) as engine:
        state.set_table(external(f"{engine.url}/v1", mode="Enabled", **SHORT))
        await until(lambda: health(state).state is State.UNHEALTHY)
        assert (health(state).reason, health(state).message) == (
            "GenerationTimeout", "it answers its checks, but gave no token within 1 s",
        )  # fmt: skip
        listed = sum(a.path == "/v1/models" for a in engine.asked)
        await until(lambda: sum(a.path == "/v1/models" for a in engine.asked) > listed + 4)
        assert health(state).state is State.UNHEALTHY, "good lists do not bring it back"
        hang = False
        await until(lambda: health(state).state is State.PROBATION)
    assert bodies[0]["model"] == "small"
    assert bodies[0]["max_tokens"] == 1
    asked = next(a for a in engine.asked if a.path == "/v1/chat/completions")
    assert asked.headers["Authorization"] == "Bearer sk-1"


async def test_an_engine_that_fails_to_generate_is_unhealthy_by_its_own_words(state: GatewayState) -> None:
    broken = Reply(500, {"error": {"message": "CUDA error: device-side assert triggered"}})
    async with Engine({"/v1/models": Reply(), "/v1/chat/completions": broken}) as engine:
        state.set_table(external(f"{engine.url}/v1", mode="Enabled"))
        await until(lambda: health(state).state is State.UNHEALTHY)
        assert (health(state).reason, health(state).message) == (
            "ServerError", "it answers its checks, but not with a token: its server failed",
        )  # fmt: skip


@pytest.mark.parametrize("status", [400, 401, 404, 422, 429])
async def test_an_answer_about_the_request_says_nothing_about_the_engine(state: GatewayState, status: int) -> None:
    refused = Reply(status, {"error": {"message": "max_tokens is not supported"}})
    async with Engine({"/v1/models": Reply(), "/v1/chat/completions": refused}) as engine:
        state.set_table(external(f"{engine.url}/v1", mode="Enabled"))
        await until(lambda: sum(a.path == "/v1/chat/completions" for a in engine.asked) >= 3)
        assert health(state).state is State.HEALTHY
        assert not health(state).doubted


async def test_an_external_pays_for_no_token_unless_it_is_asked_for(state: GatewayState) -> None:
    async with Engine({"/v1/models": Reply(), "/v1/chat/completions": Reply(body=ANSWERED)}) as engine:
        state.set_table(external(f"{engine.url}/v1"))
        await until(lambda: len(engine.asked) >= 6)
        assert {a.path for a in engine.asked} == {"/v1/models"}


async def test_traffic_makes_it_superfluous(state: GatewayState) -> None:
    async with Engine({"/v1/models": Reply(), "/v1/chat/completions": Reply(body=ANSWERED)}) as engine:
        state.set_table(external(f"{engine.url}/v1", mode="Enabled", interval="2s"))
        key = next(iter(state.table.backends.values())).endpoints[0].key
        for _ in range(25):
            await asyncio.sleep(0.1)
            state.health.observe_success(key, "small", 5.0, state.clock())
        assert {a.path for a in engine.asked} == {"/v1/models"}
        health(state).begin()
        await asyncio.sleep(2.5)
        assert {a.path for a in engine.asked} == {"/v1/models"}, "an answer under way will tell"
        health(state).end(False)
        await until(lambda: any(a.path == "/v1/chat/completions" for a in engine.asked))


async def test_ollama_is_asked_only_for_what_is_in_memory_and_keeps_it_no_longer(state: GatewayState) -> None:
    fake = FakeOllama()
    async with Engine(fake.replies()) as engine:
        state.set_table(ollama(engine.port))
        await until(lambda: sum(a.path == "/api/ps" for a in engine.asked) >= 3)
        assert fake.asked == [], "nothing is loaded for a check"
        fake.left = {"other:7b": 1000.0}
        await asyncio.sleep(0.5)
        assert fake.asked == [], "a model that is not ours"
        fake.left = {"tiny:1b": 400.0}
        await until(lambda: fake.asked)
        asked = fake.asked[0]
        assert (asked["model"], asked["options"], asked["raw"]) == ("tiny:1b", {"num_predict": 1}, True)
        assert 380 <= asked["keep_alive"] <= 400
        fake.left = {"tiny:1b": 3e9}
        before = len(fake.asked)
        await until(lambda: len(fake.asked) > before + 1)
        assert fake.asked[-1]["keep_alive"] == -1
        fake.left = {"tiny:1b": 0.3}
        await left_alone(fake)


async def test_ollama_that_hangs_is_found_out_while_its_lists_answer(state: GatewayState) -> None:
    fake = FakeOllama()
    fake.left = {"tiny:1b": 40.0}
    fake.hang = True
    async with Engine(fake.replies()) as engine:
        state.set_table(ollama(engine.port, **SHORT))
        await until(lambda: health(state).state is State.UNHEALTHY)
        assert health(state).reason == "GenerationTimeout"
        fake.hang = False
        await until(lambda: health(state).state is State.PROBATION)
    assert isinstance(state.meter, Recorder)
    assert {o for _, o in state.meter.generations} == {"TimedOut", "Ok"}


async def test_a_model_that_is_gone_from_memory_ends_the_doubt(state: GatewayState) -> None:
    fake = FakeOllama()
    fake.left = {"tiny:1b": 40.0}
    fake.hang = True
    async with Engine(fake.replies()) as engine:
        state.set_table(ollama(engine.port, **SHORT))
        await until(lambda: health(state).state is State.UNHEALTHY)
        fake.left = {}
        await until(lambda: health(state).state is State.PROBATION)


async def test_it_can_be_turned_off(state: GatewayState) -> None:
    fake = FakeOllama()
    fake.left = {"tiny:1b": 40.0}
    async with Engine(fake.replies()) as engine:
        state.set_table(ollama(engine.port, mode="Disabled"))
        await until(lambda: sum(a.path == "/api/tags" for a in engine.asked) >= 6)
        assert {a.path for a in engine.asked} == {"/api/version", "/api/tags"}
