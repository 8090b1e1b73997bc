"""`storage.mode: PerPod` in the cluster: each pod fills a volume of its own, says how far it is, and takes it along."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from tests.demo.stage import Stage
from tests.e2e.waiting import fresh, until
from tests.support.registry import TinyRegistry


@pytest.fixture(scope="module")
def scene(here: Stage) -> Iterator[Stage]:
    scene = replace(here, namespace=fresh("per-pod"))
    scene.make_namespace()
    yield scene
    scene.remove_namespace()


def apply(scene: Stage, source: str, replicas: int = 1) -> None:
    body = {
        "apiVersion": "pointsman.dev/v1alpha1",
        "kind": "LLMBackend",
        "metadata": {"name": "own"},
        "spec": {
            "engine": "Ollama",
            "models": [{"name": "tiny", "source": source}],
            "storage": {"mode": "PerPod", "size": "1Gi"},
            "replicas": replicas,
            "drainSeconds": 1,
        },
    }
    scene.kubectl("apply", "-f", "-", stdin=json.dumps(body))


def items(scene: Stage, kind: str) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = json.loads(scene.kubectl("get", kind, "-o", "json"))["items"]
    return listed


def model(scene: Stage) -> dict[str, Any]:
    return next(iter(scene.get("pmb", "own").get("status", {}).get("models", ())), {})


def message(scene: Stage) -> str:
    conditions = scene.get("pmb", "own").get("status", {}).get("conditions", ())
    return next((c["message"] for c in conditions if c["type"] == "Ready"), "")


def test_what_keeps_a_pull_from_working_is_in_ready_and_a_right_source_heals_it(
    scene: Stage, registry: TinyRegistry
) -> None:
    apply(scene, f"ollama+http://{scene.registry_host}/demo/nobody-knows-it:1")
    until(lambda: "nobody-knows-it" in message(scene), "Ready says which model is unknown", 120)
    apply(scene, f"ollama+http://{scene.registry_host}/demo/tiny:1")
    until(lambda: model(scene).get("completedBytes", 0) > 0, "the pod's own pull is seen on its way", 120)
    scene.wait_ready("llmbackend/own")
    assert model(scene)["state"] == "Pulled"
    assert model(scene)["digest"].startswith("sha256:")


def test_a_second_pod_has_its_own_copy_and_leaves_nothing(scene: Stage, registry: TinyRegistry) -> None:
    before = registry.bytes_served
    apply(scene, f"ollama+http://{scene.registry_host}/demo/tiny:1", replicas=2)
    until(lambda: scene.get("pmb", "own")["status"].get("readyReplicas") == 2, "both pods are ready", 120)
    assert registry.bytes_served - before >= model(scene)["sizeBytes"]
    claims = items(scene, "pvc")
    pods = {p["metadata"]["uid"] for p in items(scene, "pods")}
    assert len(claims) == 2
    assert {o["uid"] for c in claims for o in c["metadata"]["ownerReferences"]} <= pods
    assert not items(scene, "jobs")
    apply(scene, f"ollama+http://{scene.registry_host}/demo/tiny:1", replicas=0)
    until(lambda: not items(scene, "pvc"), "the volumes went with their pods", 120)
    until(lambda: message(scene).endswith("spec.replicas is 0"), "and nothing is missing", 30)
