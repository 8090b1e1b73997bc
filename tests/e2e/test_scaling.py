"""Scaling on a whole cluster, with real Ollama pods: to none and back under load, up and down by bursts; every request
is answered, whatever number of pods there is."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from tests.demo import load
from tests.demo.load import Seen
from tests.demo.stage import Stage
from tests.e2e.waiting import fresh, until

IDLE_SECONDS = 20
DOWN_SECONDS = 20
START_SECONDS = 60.0
"""What a pod may take to be scheduled, to start and to load the tiny model, on a noisy machine."""


def backend(scene: Stage, name: str, **spec: Any) -> dict[str, Any]:
    source = f"ollama+http://{scene.registry_host}/demo"
    models = [{"name": m, "source": f"{source}/{m}:1"} for m in ("tiny", "ticker")]
    common = {"storage": {"size": "2Gi"}, "probe": {"interval": "1s"}, "drainSeconds": 30}
    body = {"engine": "Ollama", "models": models, "ollama": {"parallel": 4, "keepAlive": "30m"}, **common, **spec}
    return {"apiVersion": "pointsman.dev/v1alpha1", "kind": "LLMBackend", "metadata": {"name": name}, "spec": body}


def route(name: str, model: str, *targets: str, **fallback: Any) -> dict[str, Any]:
    listed = [{"backend": t, "model": model, "priority": i} for i, t in enumerate(targets)]
    spec = {"models": [name], "targets": listed, "fallback": fallback}
    return {"apiVersion": "pointsman.dev/v1alpha1", "kind": "ModelRoute", "metadata": {"name": name}, "spec": spec}


@pytest.fixture(scope="module")
def scene(here: Stage) -> Iterator[Stage]:
    """`main` follows the requests, from none to two pods; `warm` is always there, its models in memory. `chat` and
    `ticker` go to the one and fall back to the other, `patient` waits for `main`."""
    scene = replace(here, namespace=fresh("scaling"))
    scene.make_namespace()
    scaling = {"minReplicas": 0, "maxReplicas": 2, "targetInFlight": 2, "idleAfter": f"{IDLE_SECONDS}s",
               "scaleUpWindow": "4s", "scaleDownWindow": f"{DOWN_SECONDS}s"}  # fmt: skip
    items = [
        backend(scene, "main", autoscaling=scaling),
        backend(scene, "warm"),
        route("chat", "tiny", "main", "warm"),
        route("ticker", "ticker", "main", "warm"),
        route("spare", "tiny", "warm"),
        route("spare-ticker", "ticker", "warm"),
        route("patient", "tiny", "main", whileCold="Hold", holdTimeout=f"{START_SECONDS:.0f}s"),
    ]
    scene.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    scene.wait_ready("llmbackend/main", 180)
    scene.wait_ready("llmbackend/warm", 180)

    async def warm_up() -> list[Seen]:
        with scene.gateway() as url:
            async with load.client(url) as api:
                return [await load.ask(api, name, stream=True, max_tokens=2) for name in ("spare", "spare-ticker")]

    assert failed(asyncio.run(warm_up())) == []
    yield scene
    scene.remove_namespace()


def ready(scene: Stage) -> tuple[str, str]:
    """Status and reason of `main`'s Ready."""
    conditions = scene.get("pmb", "main").get("status", {}).get("conditions", ())
    return next(((c["status"], c["reason"]) for c in conditions if c["type"] == "Ready"), ("", ""))


def asleep(scene: Stage) -> bool:
    pods = json.loads(scene.kubectl("get", "pods", "-l", "pointsman.dev/backend=main", "-o", "json"))["items"]
    return ready(scene) == ("True", "ScaledToZero") and not pods


def numbers(scene: Stage) -> list[tuple[float, int, int]]:
    """Every change of `main`'s number: when (Unix seconds), from, to."""
    events = json.loads(scene.kubectl("get", "events", "-o", "json"))["items"]
    out = []
    for event in events:
        if event["reason"] == "Scaled" and event["involvedObject"]["name"] == "main":
            before, after = event["message"].split(":")[0].split(" → ")
            at = time.mktime(time.strptime(event["firstTimestamp"], "%Y-%m-%dT%H:%M:%SZ")) - time.timezone
            out.append((at, int(before), int(after)))
    return sorted(out)


def failed(results: list[Seen]) -> list[str]:
    return [s.error for s in results if s.error]


def test_it_goes_to_sleep_when_nobody_asks_though_it_is_checked_each_second(scene: Stage) -> None:
    until(lambda: asleep(scene), "the last pod is gone", IDLE_SECONDS + START_SECONDS + 60)
    states = [m["state"] for m in scene.get("pmb", "main")["status"]["models"]]
    assert states == ["Pulled", "Pulled"]


def test_from_none_the_fallback_answers_at_once_and_the_first_choice_takes_over(scene: Stage) -> None:
    until(lambda: asleep(scene), "the last pod is gone", IDLE_SECONDS + 60)

    async def ask() -> tuple[Seen, list[Seen], float]:
        with scene.gateway() as url:
            async with load.client(url) as api:
                began = time.monotonic()
                first = await load.ask(api, "chat", stream=True)
            running = load.Load(url, "chat", workers=2)
            running.start()
            while not any(s.backend == "main" for s in running.results):
                await running.until(1)
                assert time.monotonic() - began < START_SECONDS, "main does not take over"
            took = time.monotonic() - began
            await running.until(60)
            return first, await running.stop(), took

    first, results, took = asyncio.run(ask())
    assert (first.error, first.backend) == ("", "warm")
    assert first.seconds < 10, "it did not wait for the pod"
    assert failed(results) == []
    assert {s.backend for s in results} == {"main", "warm"}
    assert {s.backend for s in results[-10:]} == {"main"}, "all go to the first choice in the end"
    print(
        f"first answer after {first.seconds:.2f} s from warm; main took over after {took:.1f} s; {len(results)} answers"
    )


def test_with_hold_everybody_waits_for_the_pod_and_nobody_fails(scene: Stage) -> None:
    until(lambda: asleep(scene), "the last pod is gone", IDLE_SECONDS + 90)

    async def ask() -> list[Seen]:
        with scene.gateway() as url:
            async with load.client(url) as api:
                return list(await asyncio.gather(*(load.ask(api, "patient", stream=bool(n % 2)) for n in range(6))))

    results = asyncio.run(ask())
    assert failed(results) == []
    assert {s.backend or "main" for s in results} == {"main"}  # a stream that was kept patient names it in a comment
    print(f"six that waited were answered after {min(s.seconds for s in results):.1f} to "
          f"{max(s.seconds for s in results):.1f} s")  # fmt: skip


def test_bursts_do_not_make_it_flap_and_nobody_is_lost_when_pods_go(scene: Stage) -> None:
    """A minute of bursts of six long streams beside a trickle of short requests; then one stream at a time, while the
    second pod is taken away."""
    until(lambda: asleep(scene), "the last pod is gone", IDLE_SECONDS + 90)
    began = time.time() - 1

    async def bursts() -> list[Seen]:
        results: list[Seen] = []
        with scene.gateway() as url:
            trickle = load.Load(url, "chat", workers=1)
            trickle.start()
            async with load.client(url) as api:

                async def streams(count: int) -> None:
                    several = (load.ask(api, "ticker", stream=True, max_tokens=200) for _ in range(count))
                    results.extend(await asyncio.gather(*several))

                end = time.monotonic() + 60
                while time.monotonic() < end or not await asyncio.to_thread(grown, scene, began):
                    assert time.monotonic() < end + START_SECONDS, "it never grew"
                    await streams(6)
                    await trickle.until(3)
                more = await trickle.stop()
                end = time.monotonic() + DOWN_SECONDS + 60
                while not await asyncio.to_thread(shrunk, scene, began):
                    assert time.monotonic() < end, "it never shrank"
                    await streams(1)
                for _ in range(5):
                    await streams(1)
            return results + more

    results = asyncio.run(bursts())
    assert failed(results) == []
    changes = [c for c in numbers(scene) if c[0] >= began]
    for (up_at, a, b), (down_at, c, d) in itertools.pairwise(changes):
        assert not (b > a and d < c) or down_at - up_at >= DOWN_SECONDS, f"it flapped: {changes}"
    print(f"{len(results)} answers, none failed; {[(round(t - began), a, b) for t, a, b in changes]}")


def grown(scene: Stage, since: float) -> bool:
    return any(b == 2 for at, _, b in numbers(scene) if at >= since)


def shrunk(scene: Stage, since: float) -> bool:
    return any((a, b) == (2, 1) for at, a, b in numbers(scene) if at >= since)
