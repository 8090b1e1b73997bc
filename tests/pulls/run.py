"""The pulls of `make pulls`: by `pointsman pull` as a process of its own, from real servers on loopback."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
from tests.cluster.programs import ensure
from tests.models.helpers import kept_bytes, until
from tests.models.places import Place, place
from tests.support.ports import free_port
from tests.support.registry import TinyRegistry, publish

MIB = 1 << 20


@dataclass
class Killed:
    """A pull that was killed again and again, and then let through."""

    lost: list[int]
    """Of each kill: bytes that left the server since the kill before it, less those that the store kept of them."""
    refetched: int
    """Bytes that left the server beyond the model's size, over all kills."""
    identical: bool
    seconds: float

    @property
    def worst(self) -> int:
        """What the dearest kill cost, in bytes."""
        return max(self.lost)


@dataclass
class Shared:
    """Two pulls at once into one store."""

    beyond: int
    """Bytes that left the server beyond the model's size."""
    identical: bool


@dataclass
class Throughput:
    """Seconds of each pull of the same model from the same registry, in turn."""

    ours: list[float]
    ollamas: list[float]


async def killed(kind: str, model: Path, folder: Path, kills: int, chance: random.Random) -> Killed:
    """SIGKILL at `kills` moments, each at a random byte of what is left to serve between two kills."""
    size, store = model.stat().st_size, folder / "store"
    with place(kind, model, folder / "served") as at:
        begun, started = at.served(), time.monotonic()
        lost: list[int] = []
        for _ in range(kills):
            process = await _start(at, store)
            target = at.served() + chance.randrange(size // (kills + 1))
            await until(lambda: at.served() > target or process.returncode is not None, 300)  # noqa: B023
            assert process.returncode is None, "it ended before it was killed"
            process.send_signal(signal.SIGKILL)
            await process.wait()
            lost.append(at.served() - begun - kept_bytes(store) - sum(lost))
        await _finish(await _start(at, store))
        seconds = time.monotonic() - started
        refetched = at.served() - begun - size
    return Killed(lost, refetched, _taken(store, model, folder), seconds)


async def shared(model: Path, folder: Path) -> Shared:
    """Two backends that name one volume."""
    size, store = model.stat().st_size, folder / "store"
    with place("hf", model, folder / "served") as at:
        begun = at.served()
        both = [await _start(at, store) for _ in range(2)]
        await asyncio.gather(*(_finish(process) for process in both))
        beyond = at.served() - begun - size
    return Shared(beyond, _taken(store, model, folder))


async def throughput(model: Path, folder: Path, rounds: int) -> Throughput:
    """`ollama pull` and ours in turn, each into an empty store; the processes' start counts for both."""
    out = Throughput([], [])
    root = folder / "served"
    publish(root, "demo/noise:1", model)
    with TinyRegistry(root, mode="redirect") as registry:
        for _ in range(rounds):
            await asyncio.to_thread(os.sync)
            out.ollamas.append(await _ollama(registry, folder))
            at = Place(f"ollama+http://{registry.host}/demo/noise:1", int, registry.pace, registry.restart)
            await asyncio.to_thread(os.sync)  # what the one left to the disk must not be waited for by the other
            started = time.monotonic()
            await _finish(await _start(at, folder / "store"))
            out.ours.append(time.monotonic() - started)
            shutil.rmtree(folder / "store")
    shutil.rmtree(root)
    return out


async def _ollama(registry: TinyRegistry, folder: Path) -> float:
    """Seconds of one pull by a real Ollama; its server runs already when the clock starts."""
    port, home = free_port(), folder / "ollama"
    home.mkdir()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "OLLAMA_HOST": f"127.0.0.1:{port}",
        "OLLAMA_MODELS": str(home / "models"),
    }
    program = ensure(["ollama"])["ollama"]
    quiet = asyncio.subprocess.DEVNULL
    server = await asyncio.create_subprocess_exec(program, "serve", env=environment, stdout=quiet, stderr=quiet)
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=300) as client:
            while True:
                try:
                    await client.get("/api/version")
                    break
                except httpx.ConnectError:
                    await asyncio.sleep(0.02)
            started = time.monotonic()
            body = {"model": f"{registry.host}/demo/noise:1", "insecure": True}
            async with client.stream("POST", "/api/pull", json=body) as answer:
                last = ""
                async for line in answer.aiter_lines():
                    last = line or last
            assert json.loads(last).get("status") == "success", last
            return time.monotonic() - started
    finally:
        server.terminate()
        await server.wait()
        shutil.rmtree(home)


async def _start(at: Place, store: Path) -> asyncio.subprocess.Process:
    """A pull with the defaults that Jobs have, and with bytecode, as images have it."""
    kept = {**os.environ, "PYTHONPYCACHEPREFIX": str(store.parent / "bytecode")}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pointsman", "pull", at.source, "--store", str(store), *at.options),
        env={**kept, **at.env},
        stdout=asyncio.subprocess.DEVNULL,
    )


async def _finish(process: asyncio.subprocess.Process) -> None:
    code = await asyncio.wait_for(process.wait(), 600)
    assert code == 0, f"pull ended with {code}"


def _taken(store: Path, model: Path, folder: Path) -> bool:
    """Is the model in the store, byte by byte? Clears the store and the server's folder away."""
    big = [
        path
        for name in ("blobs", "pointsman/blobs")
        for path in (store / name).glob("sha256-*")
        if path.stat().st_size > MIB
    ]
    same = len(big) == 1 and _equal(big[0], model)
    shutil.rmtree(store)
    shutil.rmtree(folder / "served")
    return same


def _equal(one: Path, other: Path) -> bool:
    if one.stat().st_size != other.stat().st_size:
        return False
    with one.open("rb") as a, other.open("rb") as b:
        while data := a.read(16 * MIB):
            if data != b.read(16 * MIB):
                return False
    return True
