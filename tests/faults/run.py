"""One run: backends, gateway and clients, each a process of its own; then the model over what they wrote down."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from prometheus_client.parser import text_string_to_metric_families
from tests.faults import totals
from tests.faults.model import Model, Verdict
from tests.faults.values import Arrival, Asked, Change, Down, Move, read, write
from tests.faults.world import World
from tests.support.engine import until
from tests.support.gateway_process import GatewayProcess, gateway_process

RELOAD_SECONDS = 0.4
"""Between two changes of the manifests; the gateway takes a moment for each."""

BEAT_SECONDS = 0.05
STILL_SECONDS = 1.0


@dataclass
class Outcome:
    """`seconds` is what the clients took; `memory` and `cpu` are the gateway's: peak resident MiB, seconds."""

    verdict: Verdict
    requests: int
    seconds: float
    reloads: int
    memory: float
    cpu: float
    problems: list[str] = field(default_factory=list)
    """Of the gateway as a whole: its figures, its health, its log."""
    health_changes: int = 0
    latency: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """p50, p99 and the longest of all requests that were judged and not left, in seconds."""
    still: float = 0.0
    """Seconds for which the machine stood still."""
    waits: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(for a Slot or for Warmth, how it ended)."""
    hedges: Counter[str] = field(default_factory=Counter)
    """Targets that were asked beside a slow one, by how that ended."""

    @property
    def findings(self) -> list[str]:
        return self.problems + self.verdict.findings


class Events:
    """Reads the gateway's events."""

    def __init__(self) -> None:
        self.moves: list[Move] = []
        self.changes: list[Change] = []
        self.lost = 0
        self.count = 0
        """How many the gateway has given, as far as they were read."""
        self.greeted = asyncio.Event()
        self._more = asyncio.Event()
        self._offset = time.time() - time.monotonic()

    async def follow(self, admin: str) -> None:
        """Until the gateway ends."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None), read_bufsize=1 << 22) as http:
            with suppress(aiohttp.ClientError):
                async with http.get(f"{admin}/v1/events") as answer:
                    async for line in answer.content:
                        if line.startswith(b"data: "):
                            self._take(json.loads(line[6:]))

    async def reached(self, count: int) -> None:
        """Returns when all that came before the `count`-th were read."""
        while self.count < count:
            self._more.clear()
            await self._more.wait()

    def _take(self, e: dict[str, object]) -> None:
        self.greeted.set()
        self.count += 1
        self._more.set()
        match e["kind"]:
            case "Hello":
                self.count = int(str(e["events"]))
            case "FellBack":
                self.moves.append(Move(str(e["requestId"]), str(e["from"]), str(e["to"]), str(e["reason"])))
            case "HealthChanged":
                at = float(str(e["at"])) - self._offset
                self.changes.append(Change(str(e["backend"]), at, str(e["old"]), str(e["new"]), str(e["reason"])))
            case "Lost":
                self.lost += int(str(e["count"]))
                self.count += int(str(e["count"])) - 1


async def run(
    folder: Path, seed: int, requests: int, *, workers: int = 64, rate: float = 600, reload: bool = False
) -> Outcome:
    """`rate`: requests a second, less what they wait for their answers. A gateway leaves a faulty backend alone for a
    while: at a lower rate that is fewer requests, and more of them meet a fault. `folder` is empty and stays: what
    everybody wrote down is in it."""
    world = World(seed)
    manifests = folder / "manifests"
    manifests.mkdir()
    pauses: list[tuple[float, float]] = []
    beating = asyncio.create_task(_heartbeat(pauses))
    async with _process("tests.faults.backends", str(folder), str(seed)):
        await until((folder / "ports.json").exists, 60, "the backends")
        ports = json.loads((folder / "ports.json").read_text())
        (manifests / "all.yaml").write_text(world.manifests(ports))
        async with gateway_process(manifests) as gateway:
            events = Events()
            reading = asyncio.create_task(events.follow(gateway.admin))
            await asyncio.wait_for(events.greeted.wait(), 60)
            changing = asyncio.create_task(_change(world, ports, manifests, gateway) if reload else asyncio.sleep(0))
            began = time.monotonic()
            arguments = (str(folder), str(seed), gateway.url, str(requests), str(workers), str(rate))
            async with _process("tests.faults.load", *arguments) as load:
                code = await load.wait()
            seconds = time.monotonic() - began
            assert code == 0, "the clients failed"
            reloads = await _ended(changing)
            memory, cpu = _used(gateway.pid)
            counted, waits, hedges = await _settled_counts(gateway)
            gateway.signal(signal.SIGINT)
            await gateway.ended()
            await asyncio.wait_for(reading, 60)
            problems = _log_problems(gateway)
    beating.cancel()
    write(folder / "moves.jsonl", events.moves)
    write(folder / "changes.jsonl", events.changes)
    if events.lost:
        problems.append(f"{events.lost} events were lost to their reader")
    asked = read(folder / "asked.jsonl", Asked)
    model = Model(
        world,
        asked,
        read(folder / "arrivals.jsonl", Arrival),
        read(folder / "downs.jsonl", Down),
        events.changes,
        events.moves,
        reloads=reload,
        pauses=pauses,
    )
    verdict = model.check()
    if len(asked) != requests:
        problems.append(f"{requests - len(asked)} requests were lost by their clients")
    problems += totals.check_attempts(model, counted) + totals.check_health(model) + totals.check_limits(model)
    took = sorted(a.done - a.at for a in asked if not a.left and not model.paused(a.at, a.done)) or [0.0]
    latency = (took[len(took) // 2], took[len(took) * 99 // 100], took[-1])
    still = sum(end - begin for begin, end in pauses)
    changes = len(events.changes)
    return Outcome(verdict, requests, seconds, reloads, memory, cpu, problems, changes, latency, still, waits, hedges)


@asynccontextmanager
async def _process(module: str, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Ended by SIGTERM when the block is left."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *arguments, stdin=asyncio.subprocess.DEVNULL, cwd=Path(__file__).parents[2]
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), 60)
            except TimeoutError:
                process.kill()
                await process.wait()


async def _heartbeat(pauses: list[tuple[float, float]]) -> None:
    """Notes when this process, which has next to nothing to do, did not get its turn for a second and more: then nobody
    did (a virtual machine that was suspended, a machine without memory)."""
    last = time.monotonic()
    while True:
        await asyncio.sleep(BEAT_SECONDS)
        now = time.monotonic()
        if now - last > STILL_SECONDS:
            pauses.append((last, now))
        last = now


async def _change(world: World, ports: dict[str, int], manifests: Path, gateway: GatewayProcess) -> int:
    """Writes the next version of the manifests, again and again; returns how many when it is cancelled."""
    version = 0
    try:
        while True:
            version += 1
            (manifests / "all.tmp").write_text(world.manifests(ports, version))
            os.replace(manifests / "all.tmp", manifests / "all.yaml")
            gateway.signal(signal.SIGHUP)
            await asyncio.sleep(RELOAD_SECONDS)
    except asyncio.CancelledError:
        return version


async def _ended(changing: asyncio.Task[int]) -> int:
    changing.cancel()
    with suppress(asyncio.CancelledError):
        return await changing or 0
    return 0


async def _settled_counts(
    gateway: GatewayProcess,
) -> tuple[Counter[tuple[str, str]], Counter[tuple[str, str]], Counter[str]]:
    """Attempts by backend and verdict, waits, and hedges, once nothing is in flight."""
    async with aiohttp.ClientSession() as http:
        for _ in range(100):
            async with http.get(f"{gateway.admin}/metrics") as answer:
                text = await answer.text()
            if re.search(r"^pointsman_requests_in_flight 0\.0$", text, re.M):
                break
            await asyncio.sleep(0.05)
    attempts: Counter[tuple[str, str]] = Counter()
    waits: Counter[tuple[str, str]] = Counter()
    hedges: Counter[str] = Counter()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels, value = sample.labels, int(sample.value)
            match sample.name:
                case "pointsman_attempts_total" if set(labels) == {"backend", "verdict"}:
                    attempts[labels["backend"], labels["verdict"]] += value
                case "pointsman_waits_total":
                    waits[labels["for"], labels["outcome"]] += value
                case "pointsman_hedges_total":
                    hedges[labels["outcome"]] += value
    return attempts, waits, hedges


def _used(pid: int) -> tuple[float, float]:
    status = Path(f"/proc/{pid}/status").read_text()
    peak = re.search(r"^VmHWM:\s+(\d+) kB", status, re.M)
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])
    return (int(peak[1]) / 1024 if peak else 0.0), ticks / os.sysconf("SC_CLK_TCK")


def _log_problems(gateway: GatewayProcess) -> list[str]:
    bad = [f"the gateway logged: {m['message']}" for m in gateway.messages("error") + gateway.messages("critical")]
    return bad + [f"the gateway wrote: {line}" for line in gateway.log if "Traceback" in line]
