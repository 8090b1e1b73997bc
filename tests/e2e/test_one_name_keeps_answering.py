"""The demo in assertions: two backends pull a real model, a route serves it, one backend dies under load."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.demo import load, show, stage
from tests.demo.stage import Stage
from tests.e2e.waiting import fresh, until

FAILOVER_SECONDS = 5.0
"""A request that meets the death waits for a connect timeout (2 s) at worst; five times that for a noisy machine."""


def condition(demo: Stage, route: str, kind: str, status: str) -> dict[str, str] | None:
    """The route's condition of that type, when it has that status."""
    found = demo.get("pmr", route).get("status", {}).get("conditions", ())
    return next((c for c in found if (c["type"], c["status"]) == (kind, status)), None)


def backend_of(demo: Stage, model: str) -> str:
    """Who answers for a model now."""

    async def ask() -> str:
        with demo.gateway() as url:
            async with load.client(url) as api:
                seen = await load.ask(api, model, stream=False)
                return seen.backend or seen.error

    return asyncio.run(ask())


@pytest.fixture(scope="module")
def demo(here: Stage) -> Iterator[Stage]:
    """Both backends and both routes, Ready."""
    scene = replace(here, namespace=fresh("one-name"))
    scene.make_namespace()
    scene.apply("backends.yaml")
    progress = set()

    def pulled() -> bool:
        states = [scene.get("pmb", name).get("status", {}) for name in ("first", "second")]
        progress.update(m.get("progress", "") for s in states for m in s.get("models", ()) if m["state"] == "Pulling")
        return all(m["state"] == "Pulled" for s in states for m in s.get("models", [{"state": ""}]))

    until(pulled, "both backends have pulled their models", 120)
    assert any("%" in p for p in progress), f"no progress was to be seen: {progress}"
    scene.wait_ready("llmbackend/first")
    scene.wait_ready("llmbackend/second")
    scene.apply("routes.yaml")
    scene.wait_ready("modelroute/chat")
    scene.wait_ready("modelroute/ticker")
    yield scene
    scene.remove_namespace()


def test_an_unmodified_openai_client_streams_the_known_answer(demo: Stage) -> None:
    async def ask() -> load.Seen:
        with demo.gateway() as url:
            async with load.client(url) as api:
                return await load.ask(api, "chat", stream=True)

    seen = asyncio.run(ask())
    assert seen.error == ""
    assert seen.text.strip() == stage.ANSWER
    assert seen.backend == "first"


def test_the_digest_that_was_pulled_stands_in_the_status(demo: Stage) -> None:
    models = [demo.get("pmb", name)["status"]["models"] for name in ("first", "second")]
    pulled = [[(m["name"], m["digest"], m["sizeBytes"]) for m in of_one] for of_one in models]
    assert pulled[0] == pulled[1]
    assert all(digest.startswith("sha256:") and size > 50_000_000 for _, digest, size in pulled[0])


def test_status_and_explain_name_the_order(demo: Stage) -> None:
    shown = json.loads(demo.pointsman("status", "-o", "json"))
    assert [(b["name"], b["ready"], b["health"]) for b in shown["backends"]] == [
        ("first", "True", "Healthy"),
        ("second", "True", "Healthy"),
    ]
    explained = json.loads(demo.pointsman("explain", "chat", "-o", "json"))
    assert [c["backend"] for c in explained["candidates"]] == ["first", "second"]
    assert "first" in demo.pointsman("status")
    assert stage.ANSWER in demo.pointsman("test", "chat")


def test_the_cli_is_a_kubectl_plugin(demo: Stage) -> None:
    folder = Path(sys.executable).parent
    assert (folder / "kubectl-pointsman").exists()
    environment = {**os.environ, **demo.cluster.environment()}
    environment["PATH"] = f"{folder}:{environment['PATH']}"
    done = subprocess.run(
        ["kubectl", "pointsman", "status", "-n", demo.namespace],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].split()[:4] == ["BACKEND", "ENGINE", "READY", "HEALTH"]


def test_an_external_backend_needs_its_secret_and_gets_it(demo: Stage) -> None:
    """The Secret reaches the gateway by the Role that the operator made for it."""
    hosted = {
        "apiVersion": "pointsman.dev/v1alpha1",
        "kind": "LLMBackend",
        "metadata": {"name": "hosted"},
        "spec": {
            "engine": "External",
            "models": [{"name": f"{demo.registry_host}/demo/tiny:1"}],
            "external": {"url": "http://pmb-second:11434/v1", "secretRef": {"name": "hosted"}},
            "probe": {"interval": "1s"},
        },
    }
    targets = [{"backend": "hosted", "model": f"{demo.registry_host}/demo/tiny:1"}]
    route = {
        "apiVersion": "pointsman.dev/v1alpha1",
        "kind": "ModelRoute",
        "metadata": {"name": "hosted"},
        "spec": {"models": ["hosted"], "targets": [*targets, {"backend": "second", "model": "tiny", "priority": 1}]},
    }
    demo.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": [hosted, route]}))
    resolved = until(lambda: condition(demo, "hosted", "ResolvedRefs", "False"), "the missing Secret is named", 60)
    assert resolved["reason"] == "SecretMissing"
    assert "Secret hosted does not exist" in resolved["message"]
    assert backend_of(demo, "hosted") == "second", "the other target serves meanwhile"

    demo.kubectl("create", "secret", "generic", "hosted", "--from-literal=api-key=sk-not-to-be-seen")
    until(lambda: condition(demo, "hosted", "ResolvedRefs", "True"), "the Secret is there", 60)
    until(lambda: backend_of(demo, "hosted") == "hosted", "the External backend answers", 60)
    shown = demo.kubectl("get", "pmb,pmr,events", "-o", "yaml") + demo.pointsman("status", "-o", "json")
    logs = demo.kubectl("logs", "-l", "app.kubernetes.io/component=gateway", "--tail=-1")
    assert "sk-not-to-be-seen" not in shown + logs
    demo.kubectl("delete", "pmr/hosted", "pmb/hosted", "secret/hosted")


def test_a_backend_dies_under_load_and_no_request_fails(demo: Stage) -> None:
    with demo.gateway() as url:
        under_way, results = asyncio.run(show.kill_under_load(demo, url))
    print(show.summary(under_way, results))
    assert [r.error for r in results if r.failed_before_content] == []
    assert all(r.text.strip() == stage.ANSWER for r in results if not r.error)
    assert {r.backend for r in results} == {"first", "second"}
    assert max(r.seconds for r in results if not r.error) < FAILOVER_SECONDS
    assert under_way.backend == "first"
    assert under_way.first_content is not None
    assert under_way.error, "the stream from the killed pod must end with an error, not in silence"


def test_the_route_tells_of_the_fallback(demo: Stage) -> None:
    last = until(
        lambda: demo.get("pmr", "chat")["status"].get("lastFallback"), "the route's status tells of the fallback", 20
    )
    assert (last["fromBackend"], last["toBackend"]) == ("first", "second")


def test_traffic_returns_to_the_first_backend(demo: Stage) -> None:
    demo.wait_ready("llmbackend/first")
    until(lambda: backend_of(demo, "chat") == "first", "the first backend answers again", 60)


def test_a_gateway_replica_dies_and_no_new_request_fails(demo: Stage) -> None:
    async def scene(url: str) -> list[load.Seen]:
        traffic = load.Load(url, "chat")
        traffic.start()
        await traffic.until(10)
        pods = demo.kubectl("get", "pods", "-l", "app.kubernetes.io/component=gateway", "-o", "name").split()
        assert len(pods) == 2
        await asyncio.to_thread(demo.kubectl, "delete", pods[0], "--wait=true", timeout=120)
        await traffic.until(20)
        return await traffic.stop()

    with demo.gateway() as url:
        results = asyncio.run(scene(url))
    assert [r.error for r in results if r.failed_before_content] == []


def test_traffic_goes_on_without_the_operator(demo: Stage) -> None:
    demo.cluster.kubectl("-n", stage.SYSTEM, "scale", "deployment/pointsman", "--replicas=0")
    try:
        until(
            lambda: (
                not demo.cluster.kubectl(
                    "-n", stage.SYSTEM, "get", "pods", "-l", "app.kubernetes.io/component=operator", "-o", "name"
                ).strip()
            ),
            "the operator is gone",
            60,
        )
        with demo.gateway() as url:
            under_way, results = asyncio.run(show.kill_under_load(demo, url))
        assert [r.error for r in results if r.failed_before_content] == []
        assert under_way.error
    finally:
        demo.cluster.kubectl("-n", stage.SYSTEM, "scale", "deployment/pointsman", "--replicas=1")
    until(lambda: demo.get("pmb", "first")["status"]["readyReplicas"] == 1, "the operator has caught up", 90)
