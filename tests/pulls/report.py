"""What came of the pulls at full size, as text and as the page `docs/pulls.md`."""

from __future__ import annotations

import os
import platform
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster.programs.recipes import OLLAMA_VERSION
from tests.pulls.run import Killed, Shared, Throughput

PAGE = Path(__file__).parents[2] / "docs" / "pulls.md"
MIB = 1 << 20
A_KILL = 64 * MIB
"""What a kill may cost."""
SLACK = MIB
"""Heads and small answers, where a proxy counts them."""


@dataclass
class Outcome:
    """All figures of a run."""

    size: int
    kills: int
    seed: int
    killed: dict[str, Killed] = field(default_factory=dict)
    shared: Shared | None = None
    throughput: Throughput | None = None

    @property
    def ratio(self) -> float:
        """Ollama's seconds by ours, of the medians: above 1 ours is faster."""
        assert self.throughput
        return statistics.median(self.throughput.ollamas) / statistics.median(self.throughput.ours)

    @property
    def kept(self) -> bool:
        """Was every promise kept?"""
        cheap = all(k.identical and k.worst < A_KILL for k in self.killed.values())
        once = self.shared is not None and self.shared.identical and self.shared.beyond < SLACK
        return cheap and once and self.ratio >= 1.0


def text(outcome: Outcome) -> str:
    """The page."""
    t, s = outcome.throughput, outcome.shared
    assert t
    assert s
    rows = [
        f"| `{kind}://` | {k.worst / MIB:.1f} MiB | {k.refetched / len(k.lost) / MIB:.1f} MiB |"
        f" {'yes' if k.identical else '**no**'} | {k.seconds:.0f} s |"
        for kind, k in outcome.killed.items()
    ]
    speed = outcome.size / 1e6 / statistics.median(t.ours)
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}, load {os.getloadavg()[1]:.0f} at the end"
    return f"""# Pulls at full size

Written by `make pulls`: a model of {outcome.size / 1e9:g} GB of random bytes, pulled by `pointsman pull` with its
defaults from servers on loopback. For `oci://` that is Debian's docker-registry, for `s3://` the Versity gateway;
`ollama://`, `hf://` and `https://` are served by programs of the tests that redirect, sign and cut off as the real ones
do.

| | |
| --- | --- |
| date, machine | {time.strftime("%Y-%m-%d")}, {machine} |
| seed | {outcome.seed} |

## Killed again and again

SIGKILL at {outcome.kills} random moments, then let through. A kill costs what left the server since the one before,
also what only reached the sockets of the killed, less what the store keeps of it and the next pull does not ask for
again; 64 MiB are allowed for every single one. The average is counted anew at the end: all that left the server beyond
the model's size, by the kills.

| source | worst kill | average | byte-identical | all of it took |
| --- | --- | --- | --- | --- |
{chr(10).join(rows)}

## Two backends

Two pulls at once into one volume: {max(0, s.beyond):,} bytes more left the server than the model has; the model is
{"whole" if s.identical else "**damaged**"}.

## Beside `ollama pull`

The same model from the same registry into an empty store, in turn, {len(t.ours)} times each.

| | median | each |
| --- | --- | --- |
| `ollama pull` {OLLAMA_VERSION.lstrip("v")} | {_median(t.ollamas)} | {_each(t.ollamas)} |
| `pointsman pull`, the start of its process included | {_median(t.ours)} | {_each(t.ours)} |

That is {outcome.ratio:.2f} × the throughput of `ollama pull`, {speed:,.0f} MB/s. Both verify
sha256; ours has also made every byte durable when it ends, which `ollama pull` leaves to the kernel.
"""


def _median(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.1f} s"


def _each(seconds: list[float]) -> str:
    return ", ".join(f"{one:.1f}" for one in seconds)


def write(outcome: Outcome) -> None:
    """Writes the page."""
    PAGE.write_text(text(outcome))
