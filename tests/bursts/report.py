"""What came of a run as text, and as the page `docs/bursts.md`."""

from __future__ import annotations

import os
import platform
import statistics
import time
from pathlib import Path

from tests.bursts.judge import findings, goings, shortest, wakes
from tests.bursts.run import HOLD_SECONDS, MOST, TARGET, Outcome

PAGE = Path(__file__).parents[2] / "docs" / "bursts.md"
SLOT = 30
"""Seconds for each character of the chart."""
BLOCKS = "▁▂▃▄▅▆▇█"
LINE = 100
KEPT = "Nobody was lost, and the number never flapped."


def text(outcome: Outcome) -> str:
    """The page."""
    found, trace, changes = findings(outcome), outcome.trace, outcome.changes
    asked = [seen for _, seen in outcome.seen]
    gone, cold = goings(outcome), wakes(outcome)
    failed = sum(bool(s.error) for s in asked)
    served = [s for r, _ in outcome.seen for s in outcome.ledger.of.get(r.name, ())]
    checks = sum(len(v) for v in outcome.ledger.of.values()) - len(served)
    ended = sum(s.ended is not None and not s.cut for s in served)
    length = max(trace.ends, outcome.changes[-1].at - outcome.began)  # the last lull was watched too
    finished = sum(g.open for g in gone)
    takeovers = ", ".join(f"{w / 60:.1f} min ({s:.0f} s until the next one led)" for w, s in outcome.takeovers)
    rows = [
        ("date, machine", f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, Python {platform.python_version()},"
         f" load {os.getloadavg()[2]:.0f} at the end"),
        ("seed, length", f"{trace.seed}, {length / 60:.0f} min"),
        ("requests", f"{len(asked)}, {sum(s.stream for s in asked)} of them streams of up to"
         f" {max(r.seconds for r, _ in outcome.seen):.0f} s"),
        ("failed or cut", f"{failed} as the clients saw it, {len(outcome.ledger.cut())} as the pods did"),
        ("begun and ended by the pods", f"{len(served)} and {ended}; besides, {checks} checks by one token"),
        ("pods", f"{len(outcome.watched.pods)} in turn, {MOST} at most at a time"),
        ("changes of the number", f"{len(changes)}: {sum(c.after > c.before for c in changes)} up,"
         f" {sum(c.after < c.before for c in changes)} down; {sum(not c.after for c in changes)} times to none"),
        ("quickest reversal", f"{_seconds(shortest(changes, up_first=True))} from up to down,"
         f" {_seconds(shortest(changes, up_first=False))} from down to up"),
        ("who wrote the number", ", ".join(sorted(outcome.watched.writers))),
        ("pods that went with answers under way", f"{sum(bool(g.open) for g in gone)} of {len(gone)},"
         f" {sum(g.busier for g in gone)} of them while another had less to do; they had {finished} answers to finish,"
         f" and {len(outcome.ledger.cut())} were cut"),
        ("first word from none", f"{statistics.median(cold):.1f} s in the middle, {max(cold):.1f} s at most, of"
         f" {len(cold)}"),
        ("the operator's leader was killed", f"after {takeovers}" if takeovers else "never"),
    ]  # fmt: skip
    pace = outcome.pace
    policy = (
        f"`targetInFlight` {TARGET}, `scaleUpWindow` {pace.up}s, `scaleDownWindow` {pace.down}s,"
        f" `idleAfter` {pace.idle}s,\n`drainSeconds` {pace.drain}"
    )
    broken = "".join(f"- {one}\n" for one in found[:50])
    verdict = f"**{len(found)} promises were broken:**\n\n{broken}" if found else KEPT
    return f"""# Half an hour of bursts

Written by `make bursts`: a trace of bursts, long streams, flickers and lulls, played from a seed by `openai` clients
without retries on the [test cluster](how-to/test-cluster.md): the real operator (two of them), two gateways, and pods
of an engine that costs nothing (a word each half second) and writes down what it was asked. The backend scales
from 0 to {MOST}: {policy}. The route has no other target, and lets requests wait for a pod (`Hold`, {HOLD_SECONDS} s).

| | |
| --- | --- |
{chr(10).join(f"| {what} | {value} |" for what, value in rows)}

{verdict}

It would be a flap if a number that was raised were lowered before its `scaleDownWindow` (`idleAfter`, to none) is over,
or one that was lowered raised again within `scaleUpWindow`. That nobody else wrote the number is known from the
Deployment's field managers, and from its generation, which counts all changes of its spec.

## Over time

A column is {SLOT} seconds. Answers under way at most (a full block is {_most(outcome)}), the number of pods at
the end, pods that were ready then.

```
{chr(10).join(_chart(outcome))}
```
"""


def _seconds(value: float | None) -> str:
    return "none" if value is None else f"{value:.0f} s"


def _under_way(outcome: Outcome) -> list[int]:
    """The most requests at once in each slot."""
    ends = max(s.ended for _, s in outcome.seen)
    slots = int((max(ends, outcome.changes[-1].at) - outcome.began) // SLOT) + 1
    out = [0] * slots
    for step in range(slots * SLOT):
        now = outcome.began + step
        out[step // SLOT] = max(out[step // SLOT], sum(s.started <= now < s.ended for _, s in outcome.seen))
    return out


def _most(outcome: Outcome) -> int:
    return max(_under_way(outcome))


def _chart(outcome: Outcome) -> list[str]:
    under_way = _under_way(outcome)
    most = max(under_way)
    load = "".join(BLOCKS[round(n / most * (len(BLOCKS) - 1))] if n else " " for n in under_way)

    def number(steps: list[tuple[float, int]]) -> str:
        ends = (outcome.began + SLOT * (slot + 1) for slot in range(len(under_way)))
        return "".join(str(next((n for at, n in reversed(steps) if at <= end), 0)) for end in ends)

    lines = [("under way", load), ("pods", number([(c.at, c.after) for c in outcome.changes])),
             ("ready", number(outcome.watched.ready_at))]  # fmt: skip
    return [f"{name:10}{line[i : i + LINE]}" for i in range(0, len(under_way), LINE) for name, line in lines]


def write(outcome: Outcome) -> None:
    """Writes the page."""
    PAGE.write_text(text(outcome))
