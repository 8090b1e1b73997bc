"""What a standalone gateway still knows after a restart, real processes on real sockets."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from tests.gateway.test_discover import chat
from tests.gateway.test_standalone import backend, get, route
from tests.support import local_servers, openai_engine
from tests.support.engine import Engine, until
from tests.support.gateway_process import GatewayProcess, gateway_process
from tests.support.ports import free_port

from pointsman.gateway.sources import kept
from pointsman.gateway.sources.findings import Finding, Kind
from pointsman.gateway.sources.kept import AGE_SECONDS, FILE, Ill, Kept


async def state_of(gateway: GatewayProcess, name: str) -> tuple[str, str]:
    shown: Any = await get(gateway, "/v1/backends")
    found = next(b for b in shown["backends"] if b["name"] == name)
    return found["state"], found.get("reason", "")


@pytest.mark.parametrize("clean", [True, False])
async def test_a_dead_first_choice_is_not_tried_again_by_the_first_requests(tmp_path: Path, clean: bool) -> None:
    manifests, folder = tmp_path / "manifests", tmp_path / "state"
    manifests.mkdir(), folder.mkdir()
    async with Engine(openai_engine.replies("two")) as two:
        (manifests / "a.yaml").write_text(backend("one", free_port()) + backend("two", two.port) + route("one", "two"))
        async with gateway_process(manifests, "--state-dir", str(folder)) as gateway:
            assert await chat(gateway, "chat") == (200, "two")
            assert await state_of(gateway, "one") == ("Unhealthy", "Refused")
            if clean:
                gateway.signal(signal.SIGINT)
                assert await gateway.ended() == 0
            else:
                await until(lambda: (found := kept.read(folder, time.time())) is not None and found.ill)
        async with gateway_process(manifests, "--state-dir", str(folder)) as gateway:
            told = [m["message"] for m in gateway.messages("info")]
            assert any(m.startswith("backend one was Unhealthy before the restart") for m in told)
            body = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}
            url = f"{gateway.url}/v1/chat/completions"
            async with aiohttp.ClientSession() as http, http.post(url, json=body) as answer:
                assert answer.headers["x-pointsman-attempts"] == "1"
            shown: Any = await get(gateway, "/v1/backends")
            assert shown["routes"][0]["last_fallback"]["from_backend"] == "one"


async def test_an_endpoint_that_was_mended_meanwhile_comes_back_by_its_checks(tmp_path: Path) -> None:
    manifests, folder = tmp_path / "manifests", tmp_path / "state"
    manifests.mkdir(), folder.mkdir()
    async with Engine(openai_engine.replies("one")) as one:
        (manifests / "a.yaml").write_text(backend("one", one.port) + route("one"))
        key = f"one http://127.0.0.1:{one.port}/v1"
        (folder / FILE).write_bytes(msgspec.json.encode(Kept(time.time(), {key: Ill("Refused", "it was down")})))
        async with gateway_process(manifests, "--state-dir", str(folder)) as gateway, aiohttp.ClientSession() as http:
            while True:
                async with http.get(f"{gateway.admin}/v1/backends") as answer:
                    state = (await answer.json())["backends"][0]["state"]
                if state == "Probation":
                    break
                assert state == "Unhealthy"
            assert await chat(gateway, "chat") == (200, "one")


async def test_a_found_server_that_is_away_at_the_restart_keeps_its_name(tmp_path: Path) -> None:
    port = free_port()
    flags = ("--discover", "--discover-port", str(port), "--state-dir", str(tmp_path))
    async with Engine(local_servers.vllm("m"), port=port), gateway_process(None, *flags) as gateway:
        assert await chat(gateway, "m") == (200, f"vllm-{port}")
        gateway.signal(signal.SIGINT)
        assert await gateway.ended() == 0
    async with gateway_process(None, *flags) as gateway:
        assert (await chat(gateway, "m"))[0] == 502, "known, and away"
        assert (await chat(gateway, "other"))[0] == 404


def test_what_is_old_from_the_future_or_not_ours_is_ignored(tmp_path: Path) -> None:
    fresh = Kept(1000.0, {"k": Ill("Refused", "m")}, found=((1.5, Finding(Kind.OLLAMA, "h", 1, ("m",))),))
    path = tmp_path / FILE
    assert kept.read(tmp_path, 1000.0) is None
    path.write_bytes(msgspec.json.encode(fresh))
    assert kept.read(tmp_path, 1000.0 + AGE_SECONDS - 1) == fresh
    assert kept.read(tmp_path, 1000.0 + AGE_SECONDS) is None
    assert kept.read(tmp_path, 999.0) is None
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(fresh, form=2)))
    assert kept.read(tmp_path, 1000.0) is None
    path.write_bytes(b"{half")
    assert kept.read(tmp_path, 1000.0) is None
