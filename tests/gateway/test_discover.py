"""`--discover` and `init` against servers on loopback ports: who is told apart, what is served, what is written."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.gateway.test_standalone import backend, get, route
from tests.support import local_servers, openai_engine
from tests.support.engine import Answer, Engine, Reply, until
from tests.support.gateway_process import GatewayProcess, gateway_process
from tests.support.ports import free_port

from pointsman.gateway.sources.discovery import Discovery, Places, sentence
from pointsman.gateway.sources.findings import Finding, Kind
from pointsman.gateway.sources.manifests import EMPTY, load


def places(*ports: int, own: frozenset[int] = frozenset()) -> Places:
    return Places(ports=ports, own=own)


async def found(*engines: Engine) -> dict[int, Finding]:
    discovery = Discovery(places(*(e.port for e in engines)))
    await discovery.look()
    return {f.port: f for f in discovery.findings}


@pytest.mark.parametrize(
    ("answers", "kind", "models"),
    [
        (local_servers.ollama("llama3.2:latest", "phi4:mini"), Kind.OLLAMA, ("llama3.2:latest", "phi4:mini")),
        (local_servers.ollama(), Kind.OLLAMA, ()),
        (local_servers.lm_studio("qwen/qwen3-8b"), Kind.LM_STUDIO, ("qwen/qwen3-8b",)),
        (local_servers.llama_cpp("tiny.gguf"), Kind.LLAMA_CPP, ("tiny.gguf",)),
        (local_servers.vllm("meta/llama"), Kind.VLLM, ("meta/llama",)),
        (local_servers.openai_list("me", "m"), Kind.OTHER, ("m",)),
        (local_servers.openai_list(None, "m"), Kind.OTHER, ("m",)),
    ],
)
async def test_servers_are_told_apart_by_what_they_answer(
    answers: dict[str, Reply | Answer], kind: Kind, models: tuple[str, ...]
) -> None:
    async with Engine(answers) as engine:
        assert await found(engine) == {engine.port: Finding(kind, "127.0.0.1", engine.port, models)}


async def test_lm_studio_is_not_asked_for_paths_that_it_complains_of() -> None:
    async with Engine(local_servers.lm_studio("m")) as engine:
        await found(engine)
        assert [a.path for a in engine.asked] == ["/v1/models"]


@pytest.mark.parametrize(
    "answer",
    [
        Reply(200, "<html>a web site</html>"),
        Reply(200, []),
        Reply(200, {"object": "list", "data": [{"name": "no id"}]}),
        Reply(200, {"object": "list", "data": []}),
        Reply(302, "", {"Location": "http://127.0.0.1:1/"}),
        Reply(500, {}),
        Reply(200, {"object": "list", "data": [{"id": "m", "owned_by": "pointsman"}]}),
    ],
)
async def test_a_stranger_and_a_gateway_of_ours_are_left_alone(answer: Reply) -> None:
    async with Engine({"/v1/models": answer}) as engine:
        assert await found(engine) == {}


async def test_a_server_that_wants_a_key_is_said_and_not_served() -> None:
    async with Engine({"/v1/models": Reply(401, {"error": "Unauthorized"})}) as engine:
        discovery = Discovery(places(engine.port))
        await discovery.look()
        assert discovery.extend(EMPTY, EMPTY) == EMPTY
        assert f"127.0.0.1:{engine.port} wants an API key" in sentence(discovery.findings, discovery.places)


async def test_our_own_ports_are_not_asked() -> None:
    async with Engine(local_servers.vllm("m")) as engine:
        discovery = Discovery(places(engine.port, own=frozenset({engine.port})))
        assert not await discovery.look()
        assert engine.asked == []


async def test_a_server_that_restarts_stays_found() -> None:
    async with Engine(local_servers.vllm("m")) as engine:
        discovery = Discovery(places(engine.port))
        assert await discovery.look()
        assert not await discovery.look(), "the same again is no change"
    assert not await discovery.look(), "silence is a matter of health"
    assert len(discovery.findings) == 1
    async with Engine(local_servers.vllm("m", "n"), port=engine.port):
        assert await discovery.look()


async def chat(gateway: GatewayProcess, model: str) -> tuple[int, str]:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
    url = f"{gateway.url}/v1/chat/completions"
    async with aiohttp.ClientSession() as http, http.post(url, json=body) as answer:
        return answer.status, answer.headers.get("x-pointsman-backend", "")


def told(gateway: GatewayProcess) -> list[str]:
    return [m["message"] for m in gateway.messages("info") if m["message"].startswith("found ")]


@asynccontextmanager
async def discovering(manifests: Path | None, *engines: Engine, **env: str) -> AsyncIterator[Any]:
    flags = [flag for e in engines for flag in ("--discover-port", str(e.port))]
    async with gateway_process(manifests, "--discover", *flags, **env) as gateway:
        yield gateway


async def test_what_runs_is_served_and_falls_back_to_whoever_has_the_model_too() -> None:
    async with (
        Engine(local_servers.ollama("qwen3:latest", "phi4:mini")) as ollama,
        Engine(local_servers.vllm("qwen3")) as vllm,
        discovering(None, ollama, vllm) as gateway,
    ):
        assert f"vLLM on 127.0.0.1:{vllm.port} (1 model)" in told(gateway)[0]
        assert told(gateway)[0].endswith("to ask for: phi4:mini, qwen3")
        assert await chat(gateway, "qwen3") == (200, f"vllm-{vllm.port}")
        assert await chat(gateway, "qwen3:latest") == (200, f"vllm-{vllm.port}")
        assert await chat(gateway, "phi4:mini") == (200, f"ollama-{ollama.port}")
        vllm.replies[openai_engine.CHAT] = Reply(500, "down")
        assert await chat(gateway, "qwen3") == (200, f"ollama-{ollama.port}")
        assert (await get(gateway, "/v1/config"))["source"] == "discovery"


async def test_a_model_that_comes_later_is_served_without_a_restart() -> None:
    async with Engine(local_servers.ollama("a")) as ollama, discovering(None, ollama) as gateway:
        assert (await chat(gateway, "b"))[0] == 404
        ollama.replies.update(local_servers.ollama("a", "b"))
        gateway.signal(signal.SIGHUP)
        await until(lambda: len(told(gateway)) == 2)
        await until(lambda: any("table read: 1 backends, 2 routes" in m["message"] for m in gateway.messages("info")))
        assert (await chat(gateway, "b"))[0] == 200


async def test_manifests_and_discovery_together_and_the_manifests_win(tmp_path: Path) -> None:
    async with Engine(local_servers.ollama("chat", "phi4")) as ollama, Engine(openai_engine.replies("mine")) as mine:
        (tmp_path / "a.yaml").write_text(backend("mine", mine.port) + route("mine"))
        async with discovering(tmp_path, ollama) as gateway:
            assert await chat(gateway, "chat") == (200, "mine")
            assert await chat(gateway, "phi4") == (200, f"ollama-{ollama.port}")
            (tmp_path / "a.yaml").write_text(backend("mine", mine.port) + route("mine", names="phi4"))
            await until(lambda: sum("table read" in m["message"] for m in gateway.messages("info")) == 1)
            assert await chat(gateway, "phi4") == (200, "mine")
            assert await chat(gateway, "chat") == (200, f"ollama-{ollama.port}")


async def test_when_nothing_runs_it_says_how_to_start_one_and_waits() -> None:
    port = free_port()
    async with gateway_process(None, "--discover", "--discover-port", str(port)) as gateway:
        assert told(gateway) == [
            "found no llama.cpp, LM Studio, Ollama or vLLM on 127.0.0.1: start one, such as `ollama serve`;"
            " they are looked for every 10 s"
        ]
        assert (await get(gateway, "/readyz")) == "ok\n"
        async with Engine(local_servers.ollama("m"), port=port):
            gateway.signal(signal.SIGHUP)
            await until(lambda: len(told(gateway)) == 2)
            await until(lambda: any("1 backends, 1 routes" in m["message"] for m in gateway.messages("info")))
            assert (await chat(gateway, "m"))[0] == 200


async def pointsman(*arguments: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pointsman", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_init_writes_what_runs_and_a_gateway_serves_it(tmp_path: Path) -> None:
    async with Engine(local_servers.ollama("qwen3:latest", "on")) as ollama:
        code, out, _ = await pointsman("gateway", "init", str(tmp_path / "new"), "--discover-port", str(ollama.port))
        assert code == 0
        assert out.splitlines()[-1] == f"next: pointsman gateway --manifests {tmp_path / 'new'}"
        discovery = Discovery(places(ollama.port))
        await discovery.look()
        assert load(tmp_path / "new") == discovery.extend(EMPTY, EMPTY)
        async with gateway_process(tmp_path / "new") as gateway:
            assert await chat(gateway, "qwen3") == (200, f"ollama-{ollama.port}")
            assert await chat(gateway, "on") == (200, f"ollama-{ollama.port}")


async def test_init_without_a_server_writes_an_example_that_is_valid(tmp_path: Path) -> None:
    code, out, _ = await pointsman("gateway", "init", str(tmp_path), "--discover-port", str(free_port()))
    assert (code, "an example" in out) == (0, True)
    assert list(load(tmp_path).routes) == ["chat"]
    commented = [line for line in (tmp_path / "pointsman.yaml").read_text().splitlines() if line.startswith("#")]
    assert any("secretRef" in line for line in commented)


async def test_init_never_overwrites(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("# mine\n")
    code, out, err = await pointsman("gateway", "init", str(tmp_path), "--discover-port", str(free_port()))
    assert (code, out) == (2, "")
    assert f"{tmp_path / 'mine.yaml'} is there already" in err
    assert [p.name for p in tmp_path.iterdir()] == ["mine.yaml"]


async def test_a_host_that_is_none_is_refused() -> None:
    code, _, err = await pointsman("gateway", "--discover-host", "http://x")
    assert (code, "is not a host name or an IPv4 address" in err) == (2, True)
