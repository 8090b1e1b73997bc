"""A trace, played on a cluster: real operator, real gateways, real pods of an engine that costs nothing."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.bursts import leader
from tests.bursts.ledger import Ledger, listening
from tests.bursts.trace import TICK, Request, Trace
from tests.bursts.watching import Change, Watched, watching
from tests.demo import load
from tests.demo.load import Seen
from tests.demo.stage import POINTSMAN_IMAGE, Stage

NAME = "burst"
TARGET, MOST = 4, 3
HOLD_SECONDS = 55


@dataclass(frozen=True)
class Pace:
    """How soon the number follows: the windows of `spec.autoscaling`, in seconds."""

    up: int = 10
    down: int = 60
    idle: int = 45
    drain: int = 40
    """More than the longest answer takes."""


SMALL = {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}}


@dataclass
class Outcome:
    """What both sides saw. Times are Unix seconds."""

    trace: Trace
    began: float
    seen: list[tuple[Request, Seen]]
    """`Seen`'s own times are turned into Unix seconds, too."""
    ledger: Ledger
    watched: Watched
    takeovers: list[tuple[float, float]]
    """When a leader was killed (seconds since the trace began), and seconds until the next one led."""
    pace: Pace = Pace()

    @property
    def changes(self) -> list[Change]:
        """Of the Deployment's number, since the trace began: it was at none before."""
        return [c for c in self.watched.changes if c.at >= self.began]


def backend(ledger_at: str, pace: Pace) -> dict[str, Any]:
    source = (Path(__file__).parent / "engine.py").read_text().partition('"""\n\n')[2]
    spec = {
        "engine": "Custom",
        "image": POINTSMAN_IMAGE,
        "models": [{"name": NAME}],
        "custom": {
            "port": 8000,
            "probePath": "/v1/models",
            "command": ["/opt/pointsman/bin/python", "-c"],
            "args": [source, ledger_at, str(TICK)],
        },
        "resources": SMALL,
        "limits": {"maxInFlight": 2 * TARGET, "maxQueued": 64, "queueTimeout": f"{HOLD_SECONDS}s"},
        "probe": {"interval": "2s"},
        "drainSeconds": pace.drain,
        "autoscaling": {
            "minReplicas": 0, "maxReplicas": MOST, "targetInFlight": TARGET, "idleAfter": f"{pace.idle}s",
            "scaleUpWindow": f"{pace.up}s", "scaleDownWindow": f"{pace.down}s",
        },
    }  # fmt: skip
    return {"apiVersion": "pointsman.dev/v1alpha1", "kind": "LLMBackend", "metadata": {"name": NAME}, "spec": spec}


def route() -> dict[str, Any]:
    """One target, and nobody to fall back on: a request that finds no pod waits for one."""
    fallback = {"whileCold": "Hold", "holdTimeout": f"{HOLD_SECONDS}s"}
    spec = {"models": [NAME], "targets": [{"backend": NAME, "model": NAME}], "fallback": fallback}
    return {"apiVersion": "pointsman.dev/v1alpha1", "kind": "ModelRoute", "metadata": {"name": NAME}, "spec": spec}


async def play(stage: Stage, trace: Trace, kills: Sequence[float] = (), pace: Pace = Pace()) -> Outcome:
    """Plays the trace in a namespace that is there and empty. `kills`: when the operator's leader is killed, seconds
    since the trace began."""
    async with listening(stage.cluster.host_ip) as ledger:
        items = [backend(f"{stage.cluster.environment()['HOST_NAME']}:{ledger.port}", pace), route()]
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
        await asyncio.to_thread(stage.kubectl, "apply", "-f", "-", stdin=text)
        await asyncio.to_thread(stage.wait_ready, f"llmbackend/{NAME}", 120)
        await asyncio.to_thread(stage.wait_ready, f"modelroute/{NAME}", 120)
        async with watching(stage, NAME) as watched:
            await watched.until(lambda w: w.replicas == 0, "it goes to none", pace.idle + 60)
            seen, began, takeovers = await _ask(stage, trace, kills)
            idle = max(s.ended for _, s in seen) + pace.idle - time.time()
            await watched.until(lambda w: w.replicas == 0, "it goes to none in the end", max(idle, 0) + 60)
            await watched.until(lambda w: None not in w.pods.values(), "every pod is told to go", 30)
            await asyncio.sleep(began + trace.ends - time.time())  # the last lull belongs to it
        return Outcome(trace, began, seen, ledger, watched, takeovers, pace)


async def _ask(
    stage: Stage, trace: Trace, kills: Sequence[float]
) -> tuple[list[tuple[Request, Seen]], float, list[tuple[float, float]]]:
    with stage.gateway() as url:
        async with load.client(url) as api:
            unix = time.time() - time.monotonic()
            began = time.monotonic()

            async def at(when: float) -> None:
                await asyncio.sleep(began + when - time.monotonic())

            async def one(request: Request) -> tuple[Request, Seen]:
                await at(request.at)
                got = await load.ask(api, NAME, stream=request.stream, max_tokens=request.words, content=request.name)
                first = got.first_content
                return request, replace(
                    got,
                    started=got.started + unix,
                    ended=got.ended + unix,
                    first_content=first + unix if first is not None else None,
                )

            async def kill(when: float) -> tuple[float, float]:
                await at(when)
                return when, await leader.killed(stage)

            takeovers = [asyncio.create_task(kill(when)) for when in kills]
            seen = await asyncio.gather(*(one(request) for request in trace.requests))
            return list(seen), began + unix, list(await asyncio.gather(*takeovers))
