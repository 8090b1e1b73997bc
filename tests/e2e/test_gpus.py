"""GPUs on a real node: there by its status only, as a device plugin would report them; scheduler, kubelet, pull
and engine are real."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from tests.demo.stage import ANSWER, POINTSMAN_IMAGE, Stage
from tests.e2e.waiting import fresh, until


@pytest.fixture(scope="module")
def scene(here: Stage) -> Iterator[Stage]:
    scene = replace(here, namespace=fresh("gpus"))
    scene.make_namespace()
    yield scene
    node(scene, gpus=None, memory=None)
    scene.remove_namespace()


def node(scene: Stage, *, gpus: str | None, memory: str | None) -> None:
    """What a device plugin and feature discovery write; None takes it away."""
    name = json.loads(scene.cluster.kubectl("get", "nodes", "-o", "json"))["items"][0]["metadata"]["name"]
    labels = {"metadata": {"labels": {"nvidia.com/gpu.memory": memory}}}
    status = {"status": {"capacity": {"nvidia.com/gpu": gpus}, "allocatable": {"nvidia.com/gpu": gpus}}}
    scene.cluster.kubectl("patch", "node", name, "--type=merge", "-p", json.dumps(labels))
    scene.cluster.kubectl("patch", "node", name, "--subresource=status", "--type=merge", "-p", json.dumps(status))


def apply(scene: Stage, name: str, **spec: Any) -> None:
    meta = {"name": name}
    body = {"apiVersion": "pointsman.dev/v1alpha1", "kind": "LLMBackend", "metadata": meta, "spec": spec}
    scene.kubectl("apply", "-f", "-", stdin=json.dumps(body))


def says(scene: Stage, name: str, kind: str, *words: str, seconds: float = 120) -> dict[str, str]:
    """The condition, once all of `words` stand in its reason or its message."""

    def there() -> dict[str, str] | None:
        conditions = scene.get("pmb", name).get("status", {}).get("conditions", ())
        found: dict[str, str] = next((c for c in conditions if c["type"] == kind), {})
        return found if all(w in f"{found.get('reason')} {found.get('message')}" for w in words) else None

    return until(there, f"{kind} of {name} says {words}", seconds) or {}


def test_from_no_gpu_to_an_answer_and_what_fits_on_the_way(scene: Stage) -> None:
    models = [{"name": "tiny", "source": f"ollama+http://{scene.registry_host}/demo/tiny:1"}]
    spec = {"engine": "Ollama", "models": models, "storage": {"size": "1Gi"}, "drainSeconds": 1}
    apply(scene, "local", **spec, gpu={"count": 1})
    says(
        scene, "local", "Ready", "Unschedulable", "no node offers nvidia.com/gpu: is the vendor's device plugin running"
    )
    node(scene, gpus="1", memory="512")
    scene.wait_ready("pmb/local")
    found = says(scene, "local", "Fits", "TooLarge")
    assert "a part will run on the CPU" in found["message"]
    figures = scene.get("pmb", "local")["status"]["models"][0]["figures"]
    assert figures["kv"] == 4 * 2 * 2 * 64  # layers, heads, key and value, width: of the very file that Ollama runs
    node(scene, gpus="1", memory="24576")
    scene.kubectl("annotate", "pmb", "local", "pointsman.dev/reconcile-at=now", "--overwrite")
    assert says(scene, "local", "Fits", "FitsGpu", seconds=150)["status"] == "True"


def test_two_backends_compete_for_it(scene: Stage) -> None:
    engine = {"engine": "Custom", "image": POINTSMAN_IMAGE, "models": [{"name": "m"}], "drainSeconds": 1}
    apply(scene, "second", **engine, custom={"port": 8000, "command": ["sleep", "600"]}, gpu={"count": 1})
    says(scene, "second", "Ready", "waits for 1 nvidia.com/gpu; of 1 on the nodes, local holds 1")
    scene.kubectl("delete", "pmb", "second")


def test_a_pod_is_asked_past_the_gateway(scene: Stage) -> None:
    found = json.loads(scene.pointsman("test", "--backend", "local", "--runs", "3", "-o", "json"))
    assert found["answer"].strip() == ANSWER
    assert (found["backend"], found["load"]["failed"]) == ("local", 0)
    assert found["tokens_per_second"] > 0


def test_what_an_engine_says_last_is_the_cause(scene: Stage) -> None:
    """A kubelet that keeps the end of the log, and an operator that may not read logs."""
    words = "print('secret=hunter2'); print('torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB')"
    command = ["python", "-c", f"import sys; {words}; sys.exit(1)"]
    apply(scene, "last", engine="Custom", image=POINTSMAN_IMAGE, models=[{"name": "m"}],
          custom={"port": 8000, "command": command})  # fmt: skip
    found = says(scene, "last", "Ready", "GpuOutOfMemory")
    assert "smaller model" in found["message"]
    assert "hunter2" not in json.dumps(scene.get("pmb", "last")["status"])
