"""What came of a run: for the terminal, and as a page of the documentation."""

from __future__ import annotations

import os
import platform
import re
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tests.faults.faults import FAULTS, End
from tests.faults.run import Outcome

if TYPE_CHECKING:
    from tests.agreement.run import Outcome as Agreement

PAGE = Path(__file__).parents[2] / "docs" / "failover-run.md"
HEAD = """# A hundred thousand requests under random faults

Written by `make faults` and `make agreement`. A real `pointsman gateway` stands between real clients and eleven
backends that misbehave at random, in processes of their own; the faults of the [table](failover.md) are among them,
streams and not. Both sides write down everything that happened, and a model (`tests/faults/model.py`), which shares no
code with the gateway, says of each request whether it went right:

- a route with one healthy backend at its end answers every request: none may fail;
- each answer carries a token of its backend, its request and its attempt: no answer is lost, spliced, duplicated or
  somebody else's;
- nothing is sent again after an answer began; a stream that breaks off ends with one error event and no `[DONE]`;
- candidates are asked in their order, nobody twice while another is left, nobody in the pause that he asked for, and
  nobody is passed over without a reason that both sides saw;
- a backend with a limit is never asked more at once; who is full or loading is waited for as long as the manifests say;
- where another target is asked beside a slow one, the first to have content wins and the other is broken off;
- each fault gets the verdict and the reason of the table, in events, errors and metrics alike;
- a refusal has the status of the rules, and tells of every attempt truthfully;
- nobody is taken out without a cause, and everybody is let back in within its bound;
- a backend hears at once that a client has left.

`python -m tests.faults --seed N` draws the same requests and faults again; which of them meet depends on timing.
"""


def text(outcome: Outcome) -> str:
    verdict = outcome.verdict
    wrong = sum(n for name, n in verdict.faults.items() if FAULTS[name].end is not End.WHOLE)
    attempts = sum(map(len, verdict.attempts.values()))
    lines = [
        f"{outcome.requests} requests in {outcome.seconds:.0f} s ({outcome.requests / outcome.seconds:.0f} a second),"
        f" {attempts} attempts, {wrong} faults, {sum(verdict.unseen.values())} failed dials,"
        f" {outcome.health_changes} changes of health, {outcome.reloads} reloads",
        f"p50 {outcome.latency[0] * 1000:.0f} ms, p99 {outcome.latency[1]:.2f} s, longest {outcome.latency[2]:.2f} s;"
        f" the gateway took {outcome.cpu:.0f} s of CPU and {outcome.memory:.0f} MiB",
        f"  waits: {_ends(outcome.waits)}; hedges: {_ends(outcome.hedges)}",
        *(f"  {n:7} {what}" for what, n in verdict.results.most_common()),
        f"findings: {len(outcome.findings)}",
    ]
    return "\n".join(lines)


def _ends(counts: Counter[tuple[str, str]] | Counter[str]) -> str:
    """How many ended how: `Slot Served 12, Slot Full 3`."""
    named = {k if isinstance(k, str) else " ".join(k): n for k, n in counts.items()}
    return ", ".join(f"{k} {n:,}" for k, n in sorted(named.items())) or "none"


ONE = "## One configuration"
RELOADED = "## With the configuration reloaded throughout"
EXPLAINED = "## What explain says, and what happens"


def write(outcome: Outcome, seed: int, workers: int, *, reload: bool) -> None:
    """Writes the section of this kind of run, and leaves the others."""
    _put(RELOADED if reload else ONE, _body(outcome, seed, workers))


def write_agreement(outcome: Agreement, seed: int) -> None:
    """The same for `python -m tests.agreement`."""
    rows = [
        ("date, machine", _machine()),
        ("seed", str(seed)),
        ("requests", f"{outcome.requests:,} in {outcome.seconds:.0f} s"),
        ("met a change of state between the two (not judged)", f"{outcome.changed:,}"),
        ("**disagreements**", f"**{len(outcome.findings)}**"),
    ]
    counts = [
        ("compared", outcome.judged),
        ("operation", outcome.operations),
        ("strategy", outcome.strategies),
        ("place of the first candidate", outcome.places),
        ("left out for", outcome.barred),
    ]
    out = [
        "`python -m tests.agreement`, written by `make agreement`: random tables with every strategy, rules, weights,"
        " patterns, capabilities, prices and limits; random requests; backends busy, denied, loading, without the"
        " model, without the operation, down, full, drilled; responses that continue another. Each request is"
        " explained, then sent. *Every one unable* walks the whole order to its end; *faults* change the state on the"
        " way, so that only the first is compared, and the whole order where no backend has two places.",
        "",
        *_table(rows),
    ]
    for what, counter in counts:
        out += ["", f"| {what} | |", "| --- | --- |", *(f"| {k} | {n:,} |" for k, n in counter.most_common())]
    _put(EXPLAINED, "\n".join(out) + "\n")


def _put(title: str, text: str) -> None:
    sections = _sections(PAGE.read_text()) if PAGE.exists() else {}
    sections[title] = f"{title}\n\n{text}"
    order = (ONE, RELOADED, EXPLAINED)
    PAGE.write_text("\n".join([HEAD, *(sections[t].rstrip() + "\n" for t in order if t in sections)]))


def _table(rows: list[tuple[str, str]]) -> list[str]:
    return ["| | |", "| --- | --- |", *(f"| {k} | {v} |" for k, v in rows)]


def _machine() -> str:
    date = datetime.now(UTC).strftime("%Y-%m-%d")
    cores = len(os.sched_getaffinity(0))
    return f"{date}, {cores} cores, Python {platform.python_version()}, Linux {platform.release()}"


def _sections(page: str) -> dict[str, str]:
    parts = re.split(r"^(?=## )", page, flags=re.M)[1:]
    return {p.splitlines()[0]: p for p in parts}


def _body(outcome: Outcome, seed: int, workers: int) -> str:
    verdict = outcome.verdict
    attempts = sum(map(len, verdict.attempts.values()))
    rows = [
        ("date, machine", _machine()),
        ("seed", str(seed)),
        ("requests", f"{outcome.requests:,} ({workers} in flight, {outcome.requests / outcome.seconds:.0f} a second)"),
        ("attempts that reached a backend", f"{attempts:,}"),
        ("dials that failed", f"{sum(verdict.unseen.values()):,}"),
        ("changes of health", f"{outcome.health_changes:,}"),
        ("waits for a free slot and for a target that was loading", _ends(outcome.waits)),
        ("targets asked beside one that was slow", _ends(outcome.hedges)),
        ("reloads", f"{outcome.reloads:,}"),
        (
            "p50, p99, longest",
            f"{outcome.latency[0] * 1000:.0f} ms, {outcome.latency[1]:.2f} s, {outcome.latency[2]:.2f} s",
        ),
        ("the machine stood still for", f"{outcome.still:.1f} s"),
        ("the gateway's CPU and peak memory", f"{outcome.cpu:.0f} s, {outcome.memory:.0f} MiB"),
        ("**findings of the model**", f"**{len(outcome.findings)}**"),
    ]
    out = [*_table(rows), ""]
    out += ["| what the client got | requests |", "| --- | --- |"]
    out += [f"| {what} | {n:,} |" for what, n in verdict.results.most_common()]
    out += ["", "| fault | met | what must follow |", "| --- | --- | --- |"]
    faults = sorted(((n, FAULTS[name]) for name, n in verdict.faults.items()), key=lambda p: -p[0])
    out += [f"| {f.name} | {n:,} | {f.verdict}: {f.end.value} |" for n, f in faults]
    return "\n".join(out) + "\n"
