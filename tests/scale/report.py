"""What came of a run as text, and as the page `docs/scale.md`."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path

from tests.scale.clocks import Times
from tests.scale.run import Cost, Outcome

PAGE = Path(__file__).parents[2] / "docs" / "scale.md"


@dataclass(frozen=True)
class Promise:
    text: str
    limit: float
    unit: str
    found: float

    @property
    def kept(self) -> bool:
        return self.found < self.limit or self.found == self.limit == 0

    def row(self) -> str:
        limit = "0" if not self.limit else f"< {self.limit:g} {self.unit}"
        return f"| {self.text} | {limit} | {self.found:.3g} {self.unit} | {'kept' if self.kept else '**missed**'} |"


def promises(outcome: Outcome) -> list[Promise]:
    away = outcome.outage
    return [
        Promise("a changed spec → its Deployment, p99", 1, "s", outcome.specs.p99),
        Promise("a deleted Service → made again, p99", 2, "s", outcome.drift.p99),
        Promise("a changed route → the gateway routes by it, p99", 0.2, "s", outcome.routed.p99),
        Promise("the operator's leader is killed → another has carried out a change", 20, "s", outcome.crash),
        Promise("the next operator starts: writes to children, Events", 0, "", outcome.restart_writes),
        Promise("at rest: calls of the API server, but for watches and lease", 1, "a second", outcome.idle_calls),
        Promise("memory of the operator", 150, "MB", outcome.operator.mb),
        Promise("memory of the gateway", 150, "MB", outcome.gateway.mb),
        Promise(f"the API server was away for {outcome.lengths.outage:.0f} s → caught up", 25, "s", away.caught_up),
        Promise(f"requests that failed meanwhile, of {away.asked}", 0, "", away.failed),
    ]


def wrong(outcome: Outcome) -> list[str]:
    """What no slow machine excuses."""
    return [p.text for p in promises(outcome) if not p.limit and not p.kept]


def text(outcome: Outcome) -> str:
    """The page."""
    size, away = outcome.size, outcome.outage
    rows = [
        ("date, machine", f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, Python {platform.python_version()}"),
        ("the operator's start → all seen, all children made", f"{outcome.handled:.0f} s"),
        ("the operator's start → all Ready", f"{outcome.ready:.0f} s"),
        ("a changed spec → its Deployment", _times(outcome.specs)),
        ("a deleted Service → made again", _times(outcome.drift)),
        ("a changed route → the gateway routes by it", _times(outcome.routed)),
        ("the next operator's start → all visited", f"{outcome.restart:.0f} s"),
        (f"the operator, {outcome.lengths.idle:.0f} s at rest", _cost(outcome.operator)),
        (f"the gateway, {outcome.lengths.idle:.0f} s at rest, checking all backends", _cost(outcome.gateway)),
        ("the operator's restarts while the API server was away", str(away.restarts)),
    ]
    return f"""# At scale

Written by `make scale`: {size.backends:,} backends and {size.routes:,} routes in one namespace. Half of the backends
run Ollama, each with a Deployment, a Service, a volume and a pull; half are hosted APIs; each route has one of both.
The API server, its controllers and the scheduler are real, as are the operator's process, with the rights it ships
with, and the gateway's; pods are on paper: what a kubelet would say of them is written at once. All share the machine's
cores.

| promise | | measured | |
| --- | ---: | ---: | --- |
{chr(10).join(p.row() for p in promises(outcome))}

| | |
| --- | --- |
{chr(10).join(f"| {what} | {value} |" for what, value in rows)}

An operator that cannot renew its lease ends, for another may lead by then, and is started again; a kubelet would do
that as this run did, but would wait between two starts.
"""


def _times(times: Times) -> str:
    return f"{times.median:.2f} s (median), {times.p99:.2f} s (p99), {times.worst:.2f} s (worst of {times.count})"


def _cost(cost: Cost) -> str:
    return f"{cost.mb:.0f} MB ({cost.peak_mb:.0f} MB at most before), {cost.cpu_percent:.1f} % of a core"


def write(outcome: Outcome) -> None:
    """Writes the page."""
    PAGE.write_text(text(outcome))
