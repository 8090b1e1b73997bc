"""Models that lie in claims (`pvc://`): nothing is fetched, so there is no volume of ours; what is there is kept."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.controllers.cluster import backend, carried_out, observed, pod, settled

from pointsman.api.conditions import Reason
from pointsman.controllers.plan_backend import plan
from pointsman.controllers.steps import Apply
from pointsman.engines.stores import VOLUME
from pointsman.kube.resources import Obj

LIES = [{"name": "m", "source": "pvc://shared/llama"}]
HUB = [{"name": "m", "source": "hf://org/repo"}]


def claim(*modes: str) -> Obj:
    spec = {"accessModes": list(modes or ("ReadWriteOnce",))}
    return {"kind": "PersistentVolumeClaim", "metadata": {"name": "shared", "namespace": "ns", "uid": "uid-shared"},
            "spec": spec}  # fmt: skip


def vllm(models: list[dict[str, Any]], **spec: Any) -> Any:
    return backend({"engine": "VLLM", "models": models, **spec})


def pods_of(*workloads: Obj) -> list[Obj]:
    return [w["spec"]["template"]["spec"] for w in workloads]


def mounts_ours(spec: Obj) -> bool:
    containers = (*spec["containers"], *spec.get("initContainers", ()))
    mounted = any(m["name"] == VOLUME for c in containers for m in c["volumeMounts"])
    assert mounted == any(v["name"] == VOLUME for v in spec["volumes"])
    return mounted


@pytest.mark.parametrize("storage", [{}, {"mode": "PerPod"}], ids=["Shared", "PerPod"])
def test_no_volume_is_made_and_the_model_is_looked_at_where_it_lies(storage: dict[str, Any]) -> None:
    seen, todo = settled(observed(vllm(LIES, storage=storage), claim=claim(), pods=(pod(),)))
    assert todo.problem is None
    (job,) = seen.jobs.values()
    assert seen.workload is not None
    assert seen.claim == claim(), "not touched"
    for spec in pods_of(seen.workload, job):
        assert not mounts_ours(spec)
        assert {"claimName": "shared", "readOnly": True} in [v.get("persistentVolumeClaim") for v in spec["volumes"]]
        (term,) = spec["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        assert term["labelSelector"]["matchLabels"] == {"pointsman.dev/volume": "shared"}


@pytest.mark.parametrize("mode", ["ReadWriteMany", "ReadOnlyMany"])
def test_claims_that_many_nodes_read_hold_pods_on_no_node(mode: str) -> None:
    seen, _ = settled(observed(vllm(LIES), claim=claim(mode), pods=(pod(),)))
    assert seen.workload is not None
    assert all("affinity" not in spec for spec in pods_of(seen.workload, *seen.jobs.values()))


def test_a_claim_that_does_not_exist_is_said() -> None:
    todo = plan(observed(vllm(LIES)))
    assert todo.steps == ()
    assert todo.problem is not None
    assert todo.problem.reason is Reason.CLAIM_MISSING
    assert todo.problem.message == "PersistentVolumeClaim shared does not exist: create it, or correct the source"


def test_an_adapter_that_is_fetched_needs_a_volume_all_the_same() -> None:
    adapters = [{"name": "a", "source": "hf://org/lora"}]
    first = plan(observed(vllm([{**LIES[0], "adapters": adapters}])))
    assert "PersistentVolumeClaim" in [s.manifest["kind"] for s in first.steps if isinstance(s, Apply)]


def test_pods_that_have_a_volume_of_ours_keep_it_when_the_source_becomes_a_claim() -> None:
    before, _ = settled(observed(vllm(HUB), pods=(pod(),)))
    after = carried_out(before, plan(replace(before, backend=vllm(LIES))))
    after, todo = settled(replace(after, backend=vllm(LIES)))
    assert todo.problem is None
    assert after.claim is not None
    assert after.claim["metadata"]["name"] == "pmb-b", "what is in it may be the only copy"
    assert after.workload is not None
    assert all(mounts_ours(spec) for spec in pods_of(after.workload))


def test_a_volume_is_made_when_there_is_something_to_fetch_again() -> None:
    before, _ = settled(observed(vllm(LIES), claim=claim(), pods=(pod(),)))
    kinds = [s.manifest["kind"] for s in plan(replace(before, backend=vllm(HUB), claim=None)).steps
             if isinstance(s, Apply)]  # fmt: skip
    assert kinds == ["PersistentVolumeClaim", "Deployment"]
