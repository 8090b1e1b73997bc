"""Real Ollama pods that fail in every way a real engine can, each met by its row of the verdict table.

What each attempt meant is read from the gateways' own figures; that the client did not notice, from its answer.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import httpx
import pytest
from tests.demo import load
from tests.demo.stage import ANSWER, Stage
from tests.e2e.waiting import fresh, until

QUICK = {"connect": "2s", "firstToken": "3s", "answer": "4s", "idle": "3s", "total": "60s"}
"""Patience of the routes here: a tiny model answers within tens of milliseconds."""
RUNNERS = """
for p in /proc/[0-9]*; do
  if tr '\\0' ' ' < $p/cmdline 2>/dev/null | grep -q '[ ]runner[ ]'; then echo "${p#/proc/}"; fi
done
"""
"""Prints the process ids of Ollama's runners, which have the models; the pattern does not fit the script itself."""


def backend(scene: Stage, name: str, **spec: Any) -> dict[str, Any]:
    models = [{"name": m, "source": f"ollama+http://{scene.registry_host}/demo/{m}:1"} for m in ("tiny", "ticker")]
    whole = {
        "engine": "Ollama",
        "models": models,
        "ollama": {"parallel": 4, "keepAlive": "30m"},
        "storage": {"size": "1Gi"},
        "probe": {"interval": "1s", "generation": {"interval": "5s", "timeout": "3s"}},
        "drainSeconds": 1,
        **spec,
    }
    return {
        "apiVersion": "pointsman.dev/v1alpha1", "kind": "LLMBackend", "metadata": {"name": name}, "spec": whole,
    }  # fmt: skip


def route(name: str, model: str, *backends: str) -> dict[str, Any]:
    targets = [{"backend": b, "model": model, "priority": n} for n, b in enumerate(backends)]
    spec = {"models": [name], "targets": targets, "timeouts": QUICK}
    return {"apiVersion": "pointsman.dev/v1alpha1", "kind": "ModelRoute", "metadata": {"name": name}, "spec": spec}


@pytest.fixture(scope="module")
def scene(here: Stage) -> Iterator[Stage]:
    scene = replace(here, namespace=fresh("faults"))
    scene.make_namespace()
    starved = backend(
        scene, "starved", ollama={"maxQueue": 1, "keepAlive": "1s"},
        resources={"limits": {"cpu": "200m"}}, probe={"interval": "1s", "timeout": "10s"},
    )  # fmt: skip
    items = [
        backend(scene, "first"), backend(scene, "second"), starved, route("chat", "tiny", "first", "second"),
        route("ticker", "ticker", "first", "second"), route("crowd", "tiny", "starved", "second"),
    ]  # fmt: skip
    scene.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    for name in ("llmbackend/first", "llmbackend/second", "llmbackend/starved", "modelroute/chat", "modelroute/crowd"):
        scene.wait_ready(name, 180)
    yield scene
    scene.remove_namespace()


# ---- looking and breaking


def attempts(scene: Stage) -> Counter[tuple[str, str]]:
    """(backend, verdict) → how many, over all gateways."""
    found: Counter[tuple[str, str]] = Counter()
    pods = scene.kubectl("get", "pods", "-l", "app.kubernetes.io/component=gateway", "-o", "name").split()
    for pod in pods:
        path = f"/api/v1/namespaces/{scene.namespace}/pods/{pod.removeprefix('pod/')}:9090/proxy/metrics"
        for name, verdict, n in re.findall(
            r'^pointsman_attempts_total\{backend="([^"]+)",verdict="([^"]+)"\} ([0-9.]+)',
            scene.kubectl("get", "--raw", path),
            re.M,
        ):
            found[name, verdict] += int(float(n))
    return found


@contextmanager
def verdict(scene: Stage, name: str, wanted: str) -> Iterator[None]:
    """What is done inside makes the gateways give that verdict on that backend."""
    before = attempts(scene)
    yield
    after = attempts(scene)
    assert after[name, wanted] > before[name, wanted], dict(after - before)


def engine(scene: Stage, name: str = "first") -> str:
    selector = f"pointsman.dev/backend={name},app.kubernetes.io/component=engine"
    return scene.kubectl("get", "pods", "-l", selector, "-o", "jsonpath={.items[0].metadata.name}").strip()


def inside(scene: Stage, script: str) -> str:
    """Runs a script in the pod of `first`."""
    return scene.kubectl("exec", engine(scene), "--", "sh", "-c", script)


def served_name(scene: Stage, model: str) -> str:
    """What the gateway asks for: the name of exactly the digest that was pulled."""
    lines = inside(scene, "ollama list").splitlines()[1:]
    return next(n for line in lines if (n := line.split()[0]).startswith(f"pointsman/{model}:sha256-"))


def ask(url: str, model: str = "chat", **more: Any) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "Hello?"}], "max_tokens": 16, **more}
    return httpx.post(f"{url}/v1/chat/completions", json=body, timeout=90)


def from_second(url: str, answers: int = 4) -> None:
    """Every request is answered, by the second backend, as if nothing were."""
    for _ in range(answers):
        got = ask(url)
        assert (got.status_code, got.headers["x-pointsman-backend"]) == (200, "second"), (got.text, got.headers)
        assert got.json()["choices"][0]["message"]["content"].strip() == ANSWER


def back(scene: Stage, url: str, seconds: float = 60) -> None:
    """`first` answers again, several times in a row: through every gateway."""
    until(
        lambda: all(ask(url).headers.get("x-pointsman-backend") == "first" for _ in range(6)), "first is back", seconds
    )


def health(scene: Stage, name: str = "first") -> dict[str, Any]:
    found: dict[str, Any] = scene.get("pmb", name).get("status", {}).get("health", {})
    return found


# ---- one test per row


def test_success(scene: Stage) -> None:
    with scene.gateway() as url, verdict(scene, "first", "Success"):
        got = ask(url)
        assert (got.status_code, got.headers["x-pointsman-backend"]) == (200, "first")
        assert got.headers["server-timing"].startswith('pm-1;desc="first";dur=')


def test_caller_a_mistake_of_the_request_goes_back_to_who_made_it(scene: Stage) -> None:
    with scene.gateway() as url, verdict(scene, "first", "Caller"):
        before = attempts(scene)
        got = ask(url, temperature="hot")
        assert got.status_code == 400
        assert "temperature" in got.json()["error"]["message"]
        assert attempts(scene)["second", "Caller"] == before["second", "Caller"], "nobody else is asked"


def test_unfit_what_no_model_here_can_is_the_first_ones_answer(scene: Stage) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    with scene.gateway() as url, verdict(scene, "first", "Unfit"), verdict(scene, "second", "Unfit"):
        got = ask(url, tools=[tool])
        assert got.status_code == 400
        assert "does not support tools" in got.text
    assert health(scene)["state"] == "Healthy"


def test_cancelled_a_client_that_leaves_is_nobodys_fault(scene: Stage) -> None:
    async def leave() -> None:
        body = {"model": "ticker", "messages": [{"role": "user", "content": "go"}], "max_tokens": 400, "stream": True}
        with scene.gateway() as url:
            async with (
                httpx.AsyncClient(timeout=30) as http,
                http.stream("POST", f"{url}/v1/chat/completions", json=body) as got,
            ):
                async for _ in got.aiter_lines():
                    break

    before = attempts(scene)
    asyncio.run(leave())
    until(lambda: attempts(scene)["first", "Cancelled"] > before["first", "Cancelled"], "the attempt was cancelled", 60)
    assert health(scene)["state"] == "Healthy"


def test_model_missing_a_model_is_removed_under_way(scene: Stage) -> None:
    """The stream under way is answered to its end; from then on the other backend answers, for this model only."""

    async def under_way(url: str) -> load.Seen:
        async with load.client(url) as api:
            begun = asyncio.Event()
            stream = asyncio.create_task(load.ask(api, "ticker", stream=True, max_tokens=300, begun=begun))
            await asyncio.wait_for(begun.wait(), 30)
            await asyncio.to_thread(inside, scene, f"ollama rm {name}")
            return await stream

    name = served_name(scene, "tiny")
    with scene.gateway() as url:
        try:
            stream = asyncio.run(under_way(url))
            assert (stream.error, stream.backend) == ("", "first")
            from_second(url)
            # A request that met it, or the list of models: whichever was first.
            explained = json.loads(scene.pointsman("explain", "chat", "-o", "json"))
            assert [(e["backend"], e["reason"]) for e in explained["excluded"]] == [("first", "ModelMissing")]
            assert health(scene)["state"] == "Healthy", "one model is missing, the server is well"
            assert ask(url, "ticker").headers["x-pointsman-backend"] == "first"
        finally:
            inside(scene, f"ollama cp {scene.registry_host}/demo/tiny:1 {name}")
        back(scene, url)


def test_unfit_a_model_without_its_weights_cannot_chat(scene: Stage) -> None:
    with scene.gateway() as url, missing_weights(scene, "mv $b $b.kept"), verdict(scene, "first", "Unfit"):
        from_second(url)
    with scene.gateway() as url:
        back(scene, url)


def test_failure_corrupted_weights_cannot_be_loaded(scene: Stage) -> None:
    script = "mv $b $b.kept && head -c 100000 $b.kept > $b"
    with scene.gateway() as url, missing_weights(scene, script), verdict(scene, "first", "Failure"):
        from_second(url, 8)
    with scene.gateway() as url:
        back(scene, url)


@contextmanager
def missing_weights(scene: Stage, script: str) -> Iterator[None]:
    """The model leaves memory, its weights are spoilt, and restored in the end. `$b` is their file."""
    find = "b=/models/blobs/$(ls -S /models/blobs | grep -v kept | head -1)"
    for model in ("tiny", "ticker"):
        inside(scene, f"ollama stop {served_name(scene, model)}")
    until(lambda: len(inside(scene, "ollama ps").splitlines()) == 1, "nothing is in memory", 60)
    inside(scene, f"{find}; {script}")
    try:
        yield
    finally:
        inside(scene, "b=/models/blobs/$(ls /models/blobs | grep kept); mv $b ${b%.kept}")


def test_failure_the_runner_dies_in_the_middle_of_a_stream(scene: Stage) -> None:
    """Ollama ends such a stream cleanly, without a word: the client must be told."""

    async def under_way(url: str) -> load.Seen:
        async with load.client(url) as api:
            begun = asyncio.Event()
            stream = asyncio.create_task(load.ask(api, "ticker", stream=True, max_tokens=400, begun=begun))
            await asyncio.wait_for(begun.wait(), 30)
            await asyncio.to_thread(inside, scene, f"kill -9 $({RUNNERS})")
            return await stream

    with scene.gateway() as url:
        with verdict(scene, "first", "Failure"):
            seen = asyncio.run(under_way(url))
            assert seen.broken_midway
            assert "cut short" in seen.error
        back(scene, url)


def test_stalled_a_frozen_engine_that_answers_its_checks(scene: Stage) -> None:
    """Requests under way move on at their deadline, new ones avoid it, and no list of models brings it back."""
    with scene.gateway() as url:
        assert ask(url).headers["x-pointsman-backend"] == "first"
        inside(scene, f"kill -STOP $({RUNNERS})")
        try:
            with verdict(scene, "first", "Stalled"):
                from_second(url)
            until(lambda: health(scene)["state"] == "Unhealthy", "the status says so", 60)
            tags = inside(scene, "ollama list")
            assert "demo/tiny" in tags, "it answers its checks all the while"
            end = time.monotonic() + 5
            while time.monotonic() < end:
                began = time.monotonic()
                from_second(url, 1)
                assert time.monotonic() - began < 4, "nobody waits for its `answer` any more"
            assert health(scene)["reason"] in ("AnswerTimeout", "GenerationTimeout")
        finally:
            inside(scene, f"kill -CONT $({RUNNERS})")
        back(scene, url)


def test_busy_a_starved_engine_that_loads_its_model_under_a_crowd(scene: Stage) -> None:
    """It says that it is busy, and is not ejected for it: everybody is answered."""

    async def crowd(url: str) -> list[httpx.Response]:
        body = {"model": "crowd", "messages": [{"role": "user", "content": "Hello?"}], "max_tokens": 4}
        async with httpx.AsyncClient(timeout=90) as http:
            return await asyncio.gather(*(http.post(f"{url}/v1/chat/completions", json=body) for _ in range(16)))

    with scene.gateway() as url:
        seen: list[httpx.Response] = []
        before = attempts(scene)

        def refused() -> bool:
            seen.extend(asyncio.run(crowd(url)))
            time.sleep(3)  # its keep-alive is a second: the next crowd finds nothing loaded
            return (attempts(scene) - before)["starved", "Busy"] > 0

        until(refused, "a crowd meets a model that is being loaded", 90)
    assert {r.status_code for r in seen} == {200}, [r.text for r in seen if r.status_code != 200]
    assert {r.headers["x-pointsman-backend"] for r in seen} >= {"second"}


def test_failure_a_pod_that_is_gone_refuses(scene: Stage) -> None:
    with scene.gateway() as url:
        scene.kubectl("delete", "pod", engine(scene), "--force", "--grace-period=0")
        from_second(url, 2)
        scene.wait_ready("llmbackend/first", 120)
        back(scene, url)
