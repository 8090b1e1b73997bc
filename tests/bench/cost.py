"""What a request costs: CPU time of the gateway over the requests answered, in rounds, and how long requests take.

Rounds are interleaved (each measures every gateway once) and the best of each kept: what else the machine does only
ever adds.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from tests.bench.load import Load, Seen, wait_until_it_serves, wrk
from tests.bench.peers import Peer, serving
from tests.bench.process import Process

DIRECT = "direct"
_SLOW_SECONDS = 5.0


@dataclass
class Figures:
    cpu_us: list[float] = field(default_factory=list)
    """Microseconds per request, one for each round."""
    per_second: list[float] = field(default_factory=list)
    memory_mb: float = 0.0
    """After the last round's load."""
    latency: dict[int, list[Seen]] = field(default_factory=dict)
    """Connections → one for each round."""


@dataclass
class Comparison:
    found: dict[str, Figures] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    """Gateways that could not be measured, and why."""


@dataclass(frozen=True)
class Plan:
    title: str
    load: Load
    rounds: int
    warm_up: float = 0.5
    """Seconds of load before a round."""
    latencies: tuple[Load, ...] = ()
    """Measured in the same process after the load, in the first round."""
    unit: int = 1
    """Events of an answer: figures are printed for each."""


def compare(plan: Plan, peers: Sequence[Peer], backends: int, scratch: Path) -> Comparison:
    """`backends`: their port. A gateway that fails once is not asked again."""
    result = Comparison()
    ready = partial(wait_until_it_serves, stream=plan.load.stream)
    for n in range(plan.rounds):
        if not plan.load.size > 100_000:
            _direct(plan, n, backends, scratch, result.found.setdefault(DIRECT, Figures()))
        for peer in peers:
            if peer.name in result.failures or (peer.slow and n):
                continue
            figures = result.found.setdefault(peer.name, Figures())
            folder = Path(tempfile.mkdtemp(dir=scratch))
            try:
                with serving(peer, backends, folder, ready) as (process, port):
                    _round(plan, n, peer, process, port, folder, figures)
            except (RuntimeError, OSError, subprocess.SubprocessError) as error:
                result.failures[peer.name] = " ".join(str(error).split())[:200]
                print(f"{peer.name}: not measured: {error}", file=sys.stderr, flush=True)
                continue
            print(
                f"{plan.title}, round {n + 1}: {peer.name:24} {figures.cpu_us[-1] / plan.unit:8.2f} µs"
                f" {figures.per_second[-1]:8.0f}/s  {figures.memory_mb:.0f} MB",
                flush=True,
            )
    result.found = {name: f for name, f in result.found.items() if f.per_second}
    return result


def _direct(plan: Plan, n: int, backends: int, scratch: Path, into: Figures) -> None:
    into.per_second.append(wrk(backends, plan.load, scratch).per_second)
    _latencies(plan, n, backends, scratch, into)


def _round(plan: Plan, n: int, peer: Peer, process: Process, port: int, folder: Path, into: Figures) -> None:
    load = replace(plan.load, seconds=max(plan.load.seconds, _SLOW_SECONDS)) if peer.slow else plan.load
    warm_up = _SLOW_SECONDS if peer.slow else plan.warm_up
    wrk(port, Load(load.connections, warm_up, load.stream, load.size), folder)
    before = process.cpu_seconds()
    seen = wrk(port, load, folder)
    into.cpu_us.append((process.cpu_seconds() - before) / seen.requests * 1e6)
    into.per_second.append(seen.per_second)
    into.memory_mb = process.memory_mb()
    if not peer.slow:
        _latencies(plan, n, port, folder, into)


def _latencies(plan: Plan, n: int, port: int, folder: Path, into: Figures) -> None:
    if n == 0:
        for load in plan.latencies:
            into.latency.setdefault(load.connections, []).append(wrk(port, load, folder))
