"""A backend without `spec.autoscaling`, under a ScaledObject: from one pod to none, back with the first request, to
three under load, and down again. The ScaledObject is the one of `docs/how-to/scaling.md`."""

from __future__ import annotations

import asyncio
import json
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from tests.bursts.ledger import listening
from tests.bursts.run import MOST, NAME, Pace, backend, route
from tests.bursts.watching import Watched, watching
from tests.demo import load
from tests.demo.load import Load, Seen
from tests.demo.stage import Stage

GUIDE = Path(__file__).parents[2] / "docs" / "how-to" / "scaling.md"
WORDS = 16
WHOLE = " ".join(["Hello?", *(str(n) for n in range(1, WORDS))])
MANY, FEW = 10, 2
"""Clients at work: three pods are for the ones, one pod for the others."""
STEP_SECONDS = 180
"""KEDA looks each 5 s, the HPA each 15 s, and both wait before they take away."""


@dataclass
class Outcome:
    """Times are seconds."""

    steps: list[tuple[str, float]] = field(default_factory=list)
    """What was waited for, and how long."""
    changes: list[tuple[int, int]] = field(default_factory=list)
    """Of the Deployment's number."""
    seen: list[Seen] = field(default_factory=list)
    writers: set[str] = field(default_factory=set)
    cut: list[str] = field(default_factory=list)
    first_word: float = 0.0
    """How long the request waited that found no pod."""

    def findings(self) -> list[str]:
        """Each broken promise as a sentence."""
        found = [s.error or f"{len(s.text)} of {len(WHOLE)} characters arrived" for s in self.seen if s.text != WHOLE]
        found += [f"{name} was cut" for name in self.cut]
        if self.writers != {"pointsman"}:
            found.append(f"the Deployment's number was written by {sorted(self.writers)}")
        return found


def guide() -> list[dict[str, Any]]:
    """The Service and the ScaledObject of the guide."""
    blocks = re.findall(r"^```yaml\n(.*?)^```", GUIDE.read_text(), re.M | re.S)
    found = [body for block in blocks for body in yaml.safe_load_all(block)]
    return [body for body in found if body.get("kind") in ("Service", "ScaledObject")]


def manifests(namespace: str, ledger_at: str) -> list[dict[str, Any]]:
    """Everything, the guide's names replaced by those of here."""
    runs = backend(ledger_at, Pace())
    del runs["spec"]["autoscaling"]
    text = json.dumps(guide())
    for theirs, ours in (("local", NAME), ("chat", NAME), (".default.svc", f".{namespace}.svc")):
        text = re.sub(rf"(?<![\w-]){re.escape(theirs)}(?![\w-])" if theirs[0] != "." else re.escape(theirs), ours, text)
    return [runs, route(), *json.loads(text)]


async def play(stage: Stage) -> Outcome:
    """In a namespace that is there and empty; KEDA is installed."""
    out = Outcome()
    async with listening(stage.cluster.host_ip) as ledger:
        items = manifests(stage.namespace, f"{stage.cluster.environment()['HOST_NAME']}:{ledger.port}")
        await _apply(stage, *items[:2])
        await asyncio.to_thread(stage.wait_ready, f"llmbackend/{NAME}", 120)
        await asyncio.to_thread(stage.wait_ready, f"modelroute/{NAME}", 120)
        async with watching(stage, NAME) as watched:
            applied = time.monotonic()
            await _apply(stage, *items[2:])
            await asyncio.to_thread(stage.wait_ready, f"scaledobject/{NAME}", 120)
            with stage.gateway() as url:
                await _steps(url, watched, out, applied)
            out.changes = [(c.before, c.after) for c in watched.changes]
            out.writers = watched.writers
        out.cut = ledger.cut()
    return out


async def _steps(url: str, watched: Watched, out: Outcome, applied: float) -> None:
    async def until(number: int, what: str, began: float = 0.0) -> None:
        began = began or time.monotonic()
        await watched.until(lambda w: w.replicas == number, what, STEP_SECONDS)
        out.steps.append((what, time.monotonic() - began))
        print(f"{what}: {out.steps[-1][1]:.0f} s", flush=True)

    await until(0, "one pod, and nobody asks: to none", applied)
    async with load.client(url) as api:
        asked = asyncio.create_task(load.ask(api, NAME, stream=True, max_tokens=WORDS))
        await until(1, "a request that is held: one pod")
        out.seen.append(first := await asked)
        out.first_word = (first.first_content or first.ended) - first.started
    many = Load(url, NAME, workers=MANY)
    many.start()
    await until(MOST, f"{MANY} clients at work: {MOST} pods")
    out.seen += await many.stop()
    few = Load(url, NAME, workers=FEW)
    few.start()
    await until(1, f"{FEW} clients at work: one pod")
    out.seen += await few.stop()
    ended = time.monotonic()
    await until(0, "nobody asks: to none", ended)


async def _apply(stage: Stage, *items: dict[str, Any]) -> None:
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    await asyncio.to_thread(stage.kubectl, "apply", "-f", "-", stdin=text)
