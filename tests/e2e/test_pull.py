"""A pull in the cluster: killed in the middle it goes on, and what is there is not fetched again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
from tests.demo.stage import Stage
from tests.e2e.waiting import fresh, until
from tests.support.registry import TinyRegistry

MODELS = ("tiny", "ticker")


@pytest.fixture(scope="module")
def scene(here: Stage) -> Iterator[Stage]:
    scene = replace(here, namespace=fresh("pull"))
    scene.make_namespace()
    yield scene
    scene.remove_namespace()


def backend(scene: Stage, name: str, claim: str) -> None:
    body = {
        "apiVersion": "pointsman.dev/v1alpha1",
        "kind": "LLMBackend",
        "metadata": {"name": name},
        "spec": {
            "engine": "Ollama",
            "models": [{"name": m, "source": f"ollama+http://{scene.registry_host}/demo/{m}:1"} for m in MODELS],
            "storage": {"existingClaim": claim},
            "drainSeconds": 1,
        },
    }
    scene.kubectl("apply", "-f", "-", stdin=json.dumps(body))


def states(scene: Stage, name: str) -> dict[str, str]:
    return {m["name"]: m["state"] for m in scene.get("pmb", name).get("status", {}).get("models", ())}


def completed(scene: Stage, name: str) -> int:
    models = scene.get("pmb", name).get("status", {}).get("models", ())
    return max((m.get("completedBytes", 0) for m in models if m["state"] == "Pulling"), default=0)


def test_a_pull_that_is_killed_goes_on_where_it_was(scene: Stage, registry: TinyRegistry) -> None:
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "models"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2Gi"}}},
    }
    scene.kubectl("apply", "-f", "-", stdin=json.dumps(claim))
    before = registry.bytes_served
    backend(scene, "one", "models")
    until(lambda: completed(scene, "one") > 5_000_000, "the pull is under way", 60)
    scene.kubectl("delete", "pods", "-l", "app.kubernetes.io/component=pull", "--force", "--grace-period=0")
    until(lambda: set(states(scene, "one").values()) == {"Pulled"}, "the pull has ended all the same", 180)
    # Both models have the same weights: these travel once, and a kill costs less than 64 MiB of them.
    size = max(m["sizeBytes"] for m in scene.get("pmb", "one")["status"]["models"])
    assert size <= registry.bytes_served - before < size + 64 * 2**20


def test_a_second_backend_on_the_same_claim_fetches_nothing(scene: Stage, registry: TinyRegistry) -> None:
    before = registry.bytes_served
    backend(scene, "two", "models")
    scene.wait_ready("llmbackend/two")
    assert registry.bytes_served == before
