"""What is wrong stands in `Ready` of the resource itself, in words that name it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from tests.demo.stage import Stage
from tests.e2e.waiting import fresh, until


@pytest.fixture(scope="module")
def scene(here: Stage) -> Iterator[Stage]:
    scene = replace(here, namespace=fresh("root-causes"))
    scene.make_namespace()
    yield scene
    scene.remove_namespace()


def backend(scene: Stage, name: str, model: str = "tiny:1", **spec: Any) -> None:
    body = {
        "apiVersion": "pointsman.dev/v1alpha1",
        "kind": "LLMBackend",
        "metadata": {"name": name},
        "spec": {
            "engine": "Ollama",
            "models": [{"name": "tiny", "source": f"ollama+http://{scene.registry_host}/demo/{model}"}],
            "storage": {"size": "1Gi"},
            "drainSeconds": 1,
            **spec,
        },
    }
    scene.kubectl("apply", "-f", "-", stdin=json.dumps(body))


def ready(scene: Stage, name: str) -> dict[str, str]:
    status = scene.get("pmb", name).get("status", {})
    found: dict[str, str] = next((c for c in status.get("conditions", ()) if c["type"] == "Ready"), {})
    return found


def wait_reason(scene: Stage, name: str, reason: str, seconds: float = 90) -> dict[str, str]:
    def there() -> dict[str, str] | None:
        found = ready(scene, name)
        return found if found.get("reason") == reason else None

    try:
        return until(there, f"Ready of {name} says {reason}", seconds) or {}
    except AssertionError as error:
        raise AssertionError(f"{error}; Ready is {ready(scene, name)}") from None


def test_no_node_has_the_gpu(scene: Stage) -> None:
    backend(scene, "no-gpu", gpu={"count": 1})
    found = wait_reason(scene, "no-gpu", "Unschedulable")
    assert found["status"] == "False"
    assert "nvidia.com/gpu" in found["message"]


def test_the_image_does_not_exist(scene: Stage) -> None:
    backend(scene, "no-image", image="registry.invalid/ollama:none")
    assert "registry.invalid/ollama:none" in wait_reason(scene, "no-image", "ImagePullFailed")["message"]


def test_the_engine_crashes(scene: Stage) -> None:
    # The Go runtime refuses to start with a soft memory limit that is no number.
    backend(scene, "crash", env=[{"name": "GOMEMLIMIT", "value": "a-lot"}])
    assert wait_reason(scene, "crash", "CrashLoop")["status"] == "False"


def test_the_model_is_unknown(scene: Stage) -> None:
    backend(scene, "no-model", model="nothing:9")
    found = wait_reason(scene, "no-model", "UnknownModel")
    assert "nothing:9" in found["message"]


def test_the_registry_is_unreachable(scene: Stage) -> None:
    backend(scene, "no-registry", models=[{"name": "tiny", "source": "ollama+http://127.0.0.1:9/demo/tiny:1"}])
    assert "127.0.0.1:9" in wait_reason(scene, "no-registry", "RegistryUnreachable")["message"]


def test_the_volume_never_binds(scene: Stage) -> None:
    backend(scene, "no-volume", storage={"size": "1Gi", "storageClassName": "missing"})
    assert "missing" in wait_reason(scene, "no-volume", "VolumeUnbound")["message"]


def test_the_pinned_digest_is_another(scene: Stage) -> None:
    source = f"ollama+http://{scene.registry_host}/demo/tiny:1"
    backend(scene, "wrong-pin", models=[{"name": "tiny", "source": source, "digest": "sha256:" + "0" * 64}])
    assert "sha256:" in wait_reason(scene, "wrong-pin", "DigestMismatch")["message"]


def test_every_broken_backend_can_be_deleted(scene: Stage) -> None:
    scene.kubectl("delete", "pmb", "--all", "--wait=true", timeout=120)

    def left() -> str:
        return scene.kubectl("get", "deployments,jobs,pvc,services,pods", "-l", "pointsman.dev/backend", "-o", "name")

    until(lambda: not left().strip(), "nothing is left of the backends", 120)
