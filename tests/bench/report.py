"""`docs/benchmarks.md`, from the figures of one run: nothing in it is by hand, and a goal that is missed says so."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench import mock
from tests.bench.cost import DIRECT, Comparison, Figures
from tests.bench.idle import Compared
from tests.bench.load import Seen
from tests.bench.peers import OURS, PEERS
from tests.bench.soak import Soak, warm_up
from tests.cluster.cache import REPOSITORY

from pointsman import __version__

PAGE = REPOSITORY / "docs" / "benchmarks.md"
_SAYS = {p.name: p.says for p in PEERS}


@dataclass
class Run:
    rounds: int
    seconds: float
    json: Comparison | None = None
    stream: Comparison | None = None
    long: Comparison | None = None
    idle: Compared | None = None
    soak: Soak | None = None
    failover: dict[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Goal:
    text: str
    limit: float
    found: float | None
    at_least: bool = False

    @property
    def met(self) -> bool:
        if self.found is None:
            return False
        return self.found >= self.limit if self.at_least else self.found <= self.limit

    def row(self) -> str:
        found = "not measured" if self.found is None else f"{self.found:.2f}"
        return f"| {self.text} | {'≥' if self.at_least else '≤'} {self.limit:.2f} | {found} | {_met(self.met)} |"


def write(run: Run) -> None:
    PAGE.write_text(page(run))


def page(run: Run) -> str:
    """Raises `ValueError` when a part was not measured."""
    if not (run.json and run.stream and run.long and run.idle and run.soak and run.failover):
        raise ValueError("the page needs every part")
    lines = [
        *_head(run), *_goals(run.json, run.stream), *_json(run.json), *_stream(run.stream), *_latency(run.json),
        *_long(run.long), *_idle(run.idle), *_soak(run.soak), *_failover(run.failover), *_limits(),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _head(run: Run) -> list[str]:
    return [
        "# Benchmarks",
        "",
        f"Measured on {time.strftime('%d %B %Y')} with Pointsman {__version__}, by `make bench`, which wrote this page."
        " Only the ratios of one run mean anything: run it yourself.",
        "",
        f"**Machine.** {os.cpu_count()} cores, {_cpu()}, Linux {platform.release().split('-')[0]},"
        f" Python {platform.python_version()}.",
        "",
        "**Method.** The gateway is pinned to core 0, with one worker where that can be said; backends (nginx with a"
        " fixed answer, or a mock that streams) and the client (wrk) share core 1. CPU is the user and system time of"
        " the gateway's process tree, from /proc, over the requests that were answered, under full load."
        f" {run.rounds} rounds of {run.seconds:g} s each after some warming up; every gateway once a round, in a fresh"
        " process, and the best of each kept, for what else the machine does only ever adds. A run with one bad"
        " answer is void.",
        "",
        "**What Pointsman does meanwhile.** It chooses among three backends of one priority, checks their health, keeps"
        " their limits (`spec.limits`), reads and judges every answer, has fallback armed, puts the backend's model"
        " name in, counts tokens, keeps metrics and writes its access log to a file. Its data path is compiled, as in"
        " the images; the row *not compiled* is the same code run by Python.",
        "",
        "**The peers** balance over the same three backends, each as its documentation starts it, without an access"
        " log; all of them write errors only. Their commands are in `tests/bench/peers.py`: tell us of a better one.",
        "",
    ]


# ---- goals


def _goals(plain: Comparison, stream: Comparison) -> list[str]:
    ours, envoy, vllm, bare = (_cpu_of(plain, name) for name in (OURS, "envoy", "vllm", "bare"))
    event, event_vllm = _cpu_of(stream, OURS), _cpu_of(stream, "vllm")
    share = _share(stream, OURS)
    goals = [
        Goal("CPU per request, of Envoy's (must be below)", 1.0, _ratio(ours, envoy)),
        Goal("CPU per request, of vllm-router's (must)", 0.6, _ratio(ours, vllm)),
        Goal("CPU per request, of Envoy's (goal)", 0.75, _ratio(ours, envoy)),
        Goal("CPU per request, of vllm-router's (goal)", 0.5, _ratio(ours, vllm)),
        Goal("CPU per request, of the bare relay's (goal)", 2.0, _ratio(ours, bare)),
        Goal("CPU per streamed event, of vllm-router's (goal)", 1.0, _ratio(event, event_vllm)),
        Goal("Streams per second, of those asked directly (goal)", 0.6, share, at_least=True),
    ]
    return [
        "## What we set out to reach",
        "",
        "| figure | aim | measured | |",
        "| --- | ---: | ---: | --- |",
        *(g.row() for g in goals),
        "",
        "The bare relay is the floor of these libraries: it parses both sides, pools connections and decides nothing.",
        "",
    ]


def _met(met: bool) -> str:
    return "met" if met else "**missed**"


def _ratio(a: float | None, b: float | None) -> float | None:
    return a / b if a and b else None


def _named(comparison: Comparison, name: str) -> Figures | None:
    """Of the gateway with that name, or with the first name that begins so."""
    exact = comparison.found.get(name)
    return exact or next((f for n, f in comparison.found.items() if n.startswith(name)), None)


def _cpu_of(comparison: Comparison, name: str) -> float | None:
    figures = _named(comparison, name)
    return min(figures.cpu_us) if figures else None


def _share(comparison: Comparison, name: str) -> float | None:
    figures, direct = _named(comparison, name), comparison.found.get(DIRECT)
    return max(figures.per_second) / max(direct.per_second) if figures and direct else None


# ---- tables


def _json(found: Comparison) -> list[str]:
    envoy, vllm = _cpu_of(found, "envoy"), _cpu_of(found, "vllm")

    def row(name: str, f: Figures) -> str:
        cpu = min(f.cpu_us)
        return (
            f"| {name} | {cpu:,.0f} | {_times(cpu, envoy)} | {_times(cpu, vllm)} | {max(f.per_second):,.0f}"
            f" | {f.memory_mb:.0f} MB | {_SAYS[name]} |"
        )

    return [
        "## A chat request, JSON",
        "",
        f"982 bytes there on average, each prompt another than the 60 before it; {len(mock.ANSWER)} bytes back,"
        " keep-alive, 32 connections that never pause.",
        "",
        "| gateway | CPU µs/request | of Envoy's | of vllm-router's | requests/s | memory (PSS) | what it does |",
        "| --- | ---: | ---: | ---: | ---: | ---: | --- |",
        *_rows(found, row),
        *_failed(found.failures, 7),
        "",
    ]


def _stream(found: Comparison) -> list[str]:
    vllm = _cpu_of(found, "vllm")

    def row(name: str, f: Figures) -> str:
        cpu = min(f.cpu_us)
        share = _share(found, name)
        return (
            f"| {name} | {cpu / mock.EVENTS:.2f} | {_times(cpu, vllm)} | {max(f.per_second):,.0f}"
            f" | {share or 0:.2f} | {f.memory_mb:.0f} MB |"
        )

    direct = max(found.found[DIRECT].per_second)
    return [
        "## A streamed token",
        "",
        f"{mock.EVENTS} events a request, each written by itself, 16 connections that never pause. Asked directly, the"
        f" backend and wrk, which share a core, come to {direct:,.0f} streams a second.",
        "",
        "| gateway | CPU µs/event | of vllm-router's | streams/s | of direct | memory (PSS) |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        *_rows(found, row),
        *_failed(found.failures, 6),
        "",
        "Most of an event is the kernel's: a read and a write. A gateway that falls behind finds several events in one"
        " read and passes them on in one write, so that slower code can look cheaper here: that is why the row"
        " *not compiled* may be below the compiled one.",
        "",
    ]


def _latency(found: Comparison) -> list[str]:
    direct = found.found[DIRECT].latency
    counts = sorted(direct)

    def row(name: str, f: Figures) -> str:
        cells = []
        for c in counts:
            p50, p99 = _best(f.latency[c])
            base50, base99 = _best(direct[c])
            cells.append(f"{_ms(p50 - base50)} / {_ms(p99 - base99)}")
        return f"| {name} | {' | '.join(cells)} |"

    asked = " | ".join(f"{_ms(_best(direct[c])[0])} / {_ms(_best(direct[c])[1])}" for c in counts)
    return [
        "## Added latency",
        "",
        "JSON as above; median and 99th percentile in ms, less those of asking the backend directly in the same run"
        " (the row *direct* gives these). One connection never pauses; with more of them, each pauses by chance so that"
        " all together ask 1,500 times a second: that is what open connections cost, not what a queue does.",
        "",
        f"| gateway | {' | '.join(f'c = {c:,}' for c in counts)} |",
        f"| --- |{' ---: |' * len(counts)}",
        f"| direct | {asked} |",
        *(row(name, f) for name, f in found.found.items() if name != DIRECT and f.latency),
        "",
        "The client, the backend and the gateway share two cores: a 99th percentile here says as much about them as"
        " about a gateway, and a small or negative difference says nothing.",
        "",
    ]


def _long(found: Comparison) -> list[str]:
    def row(name: str, f: Figures) -> str:
        return f"| {name} | {min(f.cpu_us):,.0f} | {max(f.per_second):,.0f} | {f.memory_mb:.0f} MB |"

    return [
        "## Prompts of 1 MB",
        "",
        "JSON, 1,000,000 bytes there, 8 connections that never pause; one round. Pointsman keeps a body until its"
        " answer begins, so that it can be sent to another backend.",
        "",
        "| gateway | CPU µs/request | requests/s | memory (PSS) |",
        "| --- | ---: | ---: | ---: |",
        *_rows(found, row),
        *_failed(found.failures, 4),
        "",
    ]


def _idle(found: Compared) -> list[str]:
    lines = [
        "## Streams that wait",
        "",
        f"{found.asked:,} streams at once, each from a connection of its own to one of its own behind the gateway, that"
        " gave one token and then nothing. Memory is the gateway's PSS, without the kernel's socket buffers; a stream"
        " begun meanwhile shows what is left for others.",
        "",
    ]
    if found.asked < 10_000:
        lines += ["This machine's limit of open files (two for a stream) does not allow 10,000.", ""]
    return [
        *lines,
        "| gateway | memory of each | CPU while they wait | all open after | another's first token, p50 / p99 |"
        " open files left behind |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        *(
            f"| {name} | {i.kb_each:.1f} KB | {i.cpu_percent:.1f} % of a core | {i.open_seconds:.1f} s"
            f" | {i.first_token_ms:.1f} / {i.first_token_p99_ms:.1f} ms | {i.files_left} |"
            for name, i in found.found.items()
        ),
        *_failed(found.failures, 6),
        "",
    ]


def _soak(s: Soak) -> list[str]:
    sentence = (
        "No socket and no request is left behind." if s.clean else "**Something is left behind: this is a defect.**"
    )
    return [
        "## A soak",
        "",
        f"{_length(s.seconds)} of full load on Pointsman: {s.requests:,} whole answers on 16 connections, {s.streams:,}"
        f" streams on 8, and {s.left:,} clients that went away after half a request or after the first token."
        f" {sentence}",
        "",
        "| figure | |",
        "| --- | ---: |",
        f"| resident memory after {_length(warm_up(s.seconds))} and at the end | {s.resident_mb[0]:.1f} MB,"
        f" {s.resident_mb[1]:.1f} MB |",
        f"| slope between, with its 95 % interval | {s.slope.mb_minute:+.2f} ±"
        f" {s.slope.error_mb_minute:.2f} MB a minute |",
        f"| open files more than before, when the pools are empty again | {s.files_left} |",
        f"| requests, attempts and waits that the gateway still counts | {s.in_flight:g} |",
        "",
        f"Minute by minute, in MB: {', '.join(f'{mb:.1f}' for mb in s.by_minute)}. An allocator gives memory back when"
        " a stretch of it happens to be free: it goes up and down.",
        "",
    ]


def _failover(found: dict[str, tuple[float, float]]) -> list[str]:
    return [
        "## Failover",
        "",
        "How much longer a request takes whose first backend is broken, beside one whose first backend is the good one."
        " The second backend is the same. The broken one is asked each time: health begins anew for each request.",
        "",
        "| the first backend | added, median | added, p99 |",
        "| --- | ---: | ---: |",
        *(f"| {name} | {p50:.1f} ms | {p99:.1f} ms |" for name, (p50, p99) in found.items()),
        "",
        "A backend that hangs costs what the route's `connect`, `firstToken` or `answer` says, once: after the first"
        " such request it gets no more.",
        "",
    ]


def _limits() -> list[str]:
    return [
        "## Limits of these figures",
        "",
        "- Envoy and the bare relay only forward, and no peer writes an access log here. Some peers do what Pointsman"
        " does not: Envoy's filters, the routers' disaggregated prefill, LiteLLM's hundred providers.",
        "- One worker is one core. More throughput comes from more replicas; Envoy and the Rust routers can also use"
        " more cores in one process.",
        "- Backends that answer at once are the worst case for a gateway: a real engine takes a thousand times longer.",
        "- LiteLLM takes part only where its speed allows a run of a few seconds.",
    ]


# ---- cells


def _rows(found: Comparison, row: Callable[[str, Figures], str]) -> list[str]:
    return [row(name, f) for name, f in found.found.items() if name != DIRECT]


def _failed(failures: dict[str, str], columns: int) -> list[str]:
    return [
        f"| {name} | not measured: {why.replace('|', '/')} |{' |' * (columns - 2)}" for name, why in failures.items()
    ]


def _times(value: float, of: float | None) -> str:
    return f"{value / of:.2f}" if of else "–"


def _best(seen: Sequence[Seen]) -> tuple[float, float]:
    """Median and 99th percentile in µs."""
    return min(s.p50_us for s in seen), min(s.p99_us for s in seen)


def _ms(us: float) -> str:
    return f"{us / 1000:.2f}"


def _length(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
