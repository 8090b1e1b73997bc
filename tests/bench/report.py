"""`docs/benchmarks.md`, from the figures of one run."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench import streaming_mock
from tests.bench.peers import PEERS, ROOT

from pointsman import __version__

if TYPE_CHECKING:
    from tests.bench.__main__ import Figures

PAGE = ROOT / "docs" / "benchmarks.md"


def write(
    plain: dict[str, Figures],
    stream: dict[str, Figures],
    single: dict[str, Figures],
    failed: dict[str, tuple[float, float]],
    seconds: float,
    rounds: int,
) -> None:
    says = {p.name: p.says for p in PEERS}
    lines = [
        "# Benchmarks",
        "",
        f"Measured on {time.strftime('%d %B %Y')} with Pointsman {__version__}, by"
        " `uv run python -m tests.bench --write`. Only the ratios of one run mean anything: run it yourself.",
        "",
        f"**Machine.** {os.cpu_count()} cores, {_cpu()}, Linux {platform.release().split('-')[0]},"
        f" Python {platform.python_version()}.",
        "",
        "**Method.** The gateway is pinned to core 0 with one worker; the backend (nginx with a fixed answer, or a"
        " streaming mock) and wrk share core 1. CPU is the user and system time of the gateway's process tree over the"
        f" requests that were answered; {rounds} rounds of {seconds:g} s each, every gateway once a round, the best"
        " of each kept, for what else the machine does only ever adds. A run with one bad answer is void.",
        "",
        "## A chat request, JSON",
        "",
        "982 bytes there, 371 bytes back, keep-alive, 32 connections.",
        "",
        "| gateway | CPU µs/request | of Envoy's | requests/s | memory (PSS) | what it does |",
        "| --- | ---: | ---: | ---: | ---: | --- |",
    ]
    envoy = next((min(f.cpu_us) for n, f in plain.items() if n.startswith("envoy")), None)
    for name, f in plain.items():
        cpu = min(f.cpu_us)
        ratio = f"{cpu / envoy:.0%}" if envoy else "–"
        lines.append(
            f"| {name} | {cpu:.0f} | {ratio} | {max(f.per_second):,.0f} | {f.memory_mb:.0f} MB | {says[name]} |"
        )
    lines += [
        "",
        "## A streamed token",
        "",
        f"{streaming_mock.EVENTS} events a request, each written by itself, 16 connections. The backend shares its core"
        " with the client and bounds the requests per second.",
        "",
        "| gateway | CPU µs/event | of Envoy's | streams/s |",
        "| --- | ---: | ---: | ---: |",
    ]
    envoy = next((min(f.cpu_us) for n, f in stream.items() if n.startswith("envoy")), None)
    for name, f in stream.items():
        cpu = min(f.cpu_us)
        ratio = f"{cpu / envoy:.0%}" if envoy else "–"
        lines.append(f"| {name} | {cpu / streaming_mock.EVENTS:.2f} | {ratio} | {max(f.per_second):,.0f} |")
    lines += [
        "",
        "## Added latency",
        "",
        "One connection, JSON. What is added is the difference to asking the backend directly, in the same run.",
        "",
        "| path | p50 µs | added | p99 µs |",
        "| --- | ---: | ---: | ---: |",
    ]
    direct = min(single["direct"].p50_us)
    for name, f in single.items():
        p50 = min(f.p50_us)
        added = "–" if name == "direct" else f"{p50 - direct:.0f}"
        lines.append(f"| {name} | {p50:.0f} | {added} | {min(f.p99_us):.0f} |")
    lines += [
        "",
        "## Failover",
        "",
        "How much longer a request takes whose first backend is broken, beside one whose first backend is the good one."
        " The second backend is the same.",
        "",
        "| the first backend | added, median | added, p99 |",
        "| --- | ---: | ---: |",
        *(f"| {name} | {p50:.1f} ms | {p99:.1f} ms |" for name, (p50, p99) in failed.items()),
        "",
        "A backend that hangs costs what the route's `connect`, `firstToken` or `answer` says, once: after the first"
        " such request it gets no more.",
        "",
        "## Limits of these figures",
        "",
        "- The client, the backend and the gateway share one machine; latencies under load say more about that than"
        " about a gateway, so only those of one connection are given.",
        "- Envoy and the bare relay only forward. Pointsman reads and judges each request and answer, can fall back,"
        " counts tokens and keeps the health of its backends: that is the difference to the bare relay.",
        "- One worker is one core. More throughput comes from more replicas.",
    ]
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text("\n".join(lines) + "\n")


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
