"""The demo in assertions: two backends pull a real model, a route serves it, one backend dies under load."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
from tests.demo import load, show, stage
from tests.demo.stage import Stage
from tests.e2e.waiting import until

FAILOVER_SECONDS = 5.0
"""A request that meets the death waits for a connect timeout (2 s) at worst; five times that for a noisy machine."""


@pytest.fixture(scope="module")
def demo(here: Stage) -> Iterator[Stage]:
    """Both backends and both routes, Ready."""
    scene = replace(here, namespace="one-name")
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
    scene.cluster.kubectl("delete", "namespace", scene.namespace, timeout=180)


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

    async def back() -> str:
        with demo.gateway() as url:
            async with load.client(url) as api:
                return (await load.ask(api, "chat", stream=False)).backend

    until(lambda: asyncio.run(back()) == "first", "the first backend answers again", 60)


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
