"""Thousands of streams that gave one token and then wait: what each costs while nothing happens.

Memory is that of the gateway's processes; the kernel's buffers for two sockets are not in it.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles

import uvloop
from tests.bench import backends, streams
from tests.bench.peers import Peer, serving
from tests.bench.process import Process

_SPARE_FILES = 200
_MORE = 100
"""Streams that are begun, one after the other, while the many are open."""
_GONE_SECONDS = 30.0
_START_SECONDS = 60.0


@dataclass(frozen=True)
class Idle:
    streams: int
    open_seconds: float
    """Until the last had its first token."""
    kb_each: float
    cpu_percent: float
    """Of one core, while all wait."""
    first_token_ms: float
    """Median of another stream meanwhile."""
    first_token_p99_ms: float
    files_left: int
    """Open files more than before, after all clients went away."""


@dataclass
class Compared:
    asked: int
    """Streams."""
    found: dict[str, Idle] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


def at_most(wanted: int, descriptors: int) -> int:
    """Streams that a gateway with so many file descriptors can hold: two for each, and some to live."""
    return min(wanted, (descriptors - _SPARE_FILES) // 2)


def compare(peers: Sequence[Peer], count: int, scratch: Path) -> Compared:
    result = Compared(count)
    for peer in peers:
        folder = Path(tempfile.mkdtemp(dir=scratch))
        try:
            with (
                backends.mock("idle", folder) as port,
                serving(peer, port, folder, _until_it_streams) as (process, gateway),
            ):
                result.found[peer.name] = uvloop.run(hold(process, gateway, count))
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:
            result.failures[peer.name] = " ".join(str(error).split())[:200]
            print(f"{peer.name}: not measured: {error}", file=sys.stderr, flush=True)
            continue
        print(f"idle: {peer.name:24} {result.found[peer.name]}", flush=True)
    return result


async def hold(process: Process, port: int, count: int) -> Idle:
    """Raises OSError when a stream could not be had or was lost."""
    streams.close(await streams.open_many(port, 100))
    files, memory = await settled(process), process.memory_mb()
    began = time.monotonic()
    held = await streams.open_many(port, count)
    opened = time.monotonic() - began
    try:
        each = (process.memory_mb() - memory) * 1024 / count
        before, since = process.cpu_seconds(), time.monotonic()
        await asyncio.sleep(2)
        cpu = (process.cpu_seconds() - before) / (time.monotonic() - since) * 100
        took = []
        for n in range(_MORE):
            at = time.perf_counter()
            streams.close([await streams.begin(port, n)])
            took.append((time.perf_counter() - at) * 1000)
        lost = sum(s.lost for s in held)
        if lost:
            raise OSError(f"{lost} of {count} streams were cut")
    finally:
        streams.close(held)
    left = await back_to(process, files)
    return Idle(count, opened, each, cpu, median(took), quantiles(took, n=100)[98], left)


def _until_it_streams(process: Process, port: int) -> None:
    """Raises RuntimeError."""

    async def once() -> None:
        streams.close([await streams.begin(port, seconds=5)])

    end = time.monotonic() + _START_SECONDS
    while True:
        process.check()
        try:
            return uvloop.run(once())
        except (OSError, TimeoutError) as error:
            if time.monotonic() > end:
                raise RuntimeError(f"no stream began within {_START_SECONDS:.0f} s: {error}") from None
        time.sleep(0.1)


async def settled(process: Process) -> int:
    """Open files, once their number rests for half a second."""
    counts = [process.open_files()]
    while counts[-5:] != counts[-1:] * 5:
        await asyncio.sleep(0.1)
        counts.append(process.open_files())
    return counts[-1]


async def back_to(process: Process, files: int, seconds: float = _GONE_SECONDS) -> int:
    """Open files above that number, once there are none or the time is over."""
    end = time.monotonic() + seconds
    while (left := process.open_files() - files) > 0 and time.monotonic() < end:  # noqa: ASYNC110 (of another process nobody tells)
        await asyncio.sleep(0.1)
    return max(0, left)
