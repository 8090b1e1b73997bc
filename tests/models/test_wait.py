"""`pointsman wait-model`, as an init container calls it."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest
from tests.models.helpers import REPO, finish, pull_from
from tests.support.hub import Hub


async def start(source: str, store: Path, *options: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pointsman", "wait-model", source, "--store", str(store), *options),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )


async def waiting(process: asyncio.subprocess.Process) -> str:
    assert process.stdout
    return (await asyncio.wait_for(process.stdout.readline(), 60)).decode()


@pytest.mark.parametrize("source", [f"hf://{REPO}", f"hf://{REPO}/gguf/tiny.gguf"])
async def test_it_ends_when_the_model_is_whole(hub: Hub, store: Path, source: str) -> None:
    process = await start(source, store)
    assert source in await waiting(process)
    assert process.returncode is None
    pulled = await pull_from(hub, source, store)
    code, output = await finish(process)
    assert code == 0, output
    assert str(store / pulled.path) in output


async def test_a_pin_is_another_place(hub: Hub, store: Path) -> None:
    digest = (await pull_from(hub, f"hf://{REPO}", store)).digest
    process = await start(f"hf://{REPO}", store, "--digest", digest)
    await waiting(process)
    await pull_from(hub, f"hf://{REPO}", store, digest=digest)
    assert (await finish(process))[0] == 0


async def test_what_was_cut_off_in_the_store_is_said_before_a_server_starts(hub: Hub, store: Path) -> None:
    pulled = await pull_from(hub, f"hf://{REPO}", store)
    os.truncate((store / pulled.path / "model.safetensors").resolve(), 1000)
    code, output = await finish(await start(f"hf://{REPO}", store))
    assert code == 23
    assert "model.safetensors" in output


async def test_a_bad_source_and_a_time_limit(store: Path) -> None:
    assert (await finish(await start("ftp://x", store)))[0] == 20
    assert (await finish(await start("ollama://x", store)))[0] == 20
    code, output = await finish(await start("hf://acme/none", store, "--timeout", "0.2"))
    assert code == 36
    assert "pull Job" in output


async def test_it_stops_when_it_is_told_to(store: Path) -> None:
    process = await start("hf://acme/none", store)
    await waiting(process)
    process.send_signal(signal.SIGTERM)
    assert (await finish(process))[0] == 143
