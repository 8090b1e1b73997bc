"""A backend and its children, on a real API server."""

from __future__ import annotations

from typing import Any

import pytest
from tests.cluster.plan import NODE
from tests.operator import paper
from tests.operator.bench import Bench, condition, ollama, says
from tests.operator.conftest import eventually
from tests.operator.hands import DIGEST, change, make_ready

from pointsman.kube.client import Client
from pointsman.kube.connect import Connection
from pointsman.kube.resources import (
    BACKENDS,
    CLAIMS,
    DEPLOYMENTS,
    PODS,
    SERVICES,
    Obj,
    Resource,
    owner_uids,
    resource_of,
    uid_of,
)


def foreign(kind: str, namespace: str) -> Obj:
    """Somebody else's object with the name of a child of backend `b`."""
    version, spec = {
        "Service": ("v1", {"ports": [{"port": 80}]}),
        "PersistentVolumeClaim": (
            "v1",
            {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        ),
        "Deployment": (
            "apps/v1",
            {
                "replicas": 0,
                "selector": {"matchLabels": {"mine": "yes"}},
                "template": {
                    "metadata": {"labels": {"mine": "yes"}},
                    "spec": {"containers": [{"name": "c", "image": "example.test/c:1"}]},
                },
            },
        ),
    }[kind]
    metadata = {"name": "pmb-b", "namespace": namespace, "labels": {"whose": "mine"}}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}


async def test_backend_becomes_its_children_and_is_ready_when_they_are(
    api: Connection, bench: Bench, namespace: str
) -> None:
    made = await Client(api).create(ollama("b", namespace, storage={"size": "2Gi"}))
    await bench.settle()
    deployment = await Client(api).get(DEPLOYMENTS, namespace, "pmb-b")
    claim = await Client(api).get(CLAIMS, namespace, "pmb-b")
    service = await Client(api).get(SERVICES, namespace, "pmb-b")
    assert deployment is not None
    assert claim is not None
    assert service is not None
    for child in (deployment, claim, service):
        assert owner_uids(child) == (uid_of(made),)
    assert deployment["spec"]["replicas"] == 1
    assert claim["spec"]["resources"]["requests"]["storage"] == "2Gi"
    assert service["spec"]["clusterIP"] == "None"
    backend = await bench.backend("b")
    kinds = {c["type"] for c in backend["status"]["conditions"]}
    assert kinds == {"Ready", "Reconciling", "Stalled", "ModelsPulled", "Available", "Fits", "Healthy"}
    assert backend["status"]["observedGeneration"] == backend["metadata"]["generation"]
    assert says(backend, "Ready")[0] == "False"

    await make_ready(api, bench)
    backend = await bench.backend("b")
    assert says(backend, "Ready") == ("True", "Ready")
    assert says(backend, "Reconciling") == ("False", "Settled")
    assert backend["status"]["models"][0]["digest"] == DIGEST
    assert backend["status"]["modelsSummary"] == "1/1"
    assert backend["status"]["replicas"] == 1
    assert backend["status"]["readyReplicas"] == 1


async def test_second_reconcile_writes_nothing(api: Connection, bench: Bench, namespace: str) -> None:
    spec = {"resources": {"requests": {"cpu": "1000m", "memory": "1024Mi"}, "limits": {"memory": "2048Mi"}},
            "env": [{"name": "EMPTY", "value": ""}], "nodeSelector": {"kubernetes.io/hostname": NODE},
            "tolerations": [{"key": "x", "operator": "Exists"}]}  # fmt: skip
    await Client(api).create(ollama("b", namespace, **spec))
    await make_ready(api, bench)
    again = Bench(bench.connection, namespace)
    await again.look()
    await again.visit()
    await again.close()
    assert again.client.writes == []


@pytest.mark.parametrize("kind", ["Deployment", "Service", "PersistentVolumeClaim"])
async def test_foreign_object_of_a_childs_name_is_left_alone(
    api: Connection, bench: Bench, namespace: str, kind: str
) -> None:
    before = await Client(api).create(foreign(kind, namespace))
    await Client(api).create(ollama("b", namespace))
    await bench.settle()
    backend = await bench.backend("b")
    assert says(backend, "Ready") == ("False", "NameTaken")
    assert says(backend, "Stalled") == ("True", "NameTaken")
    assert f"{kind} pmb-b" in condition(backend, "Ready")["message"]
    after = await Client(api).get(resource_of(before), namespace, "pmb-b")
    assert after is not None
    assert after["metadata"].get("labels") == before["metadata"].get("labels")
    assert "ownerReferences" not in after["metadata"]


async def test_drift_is_repaired(api: Connection, bench: Bench, namespace: str) -> None:
    await Client(api).create(ollama("b", namespace))
    await bench.settle()
    first = await Client(api).get(DEPLOYMENTS, namespace, "pmb-b")
    assert first is not None
    spoilt: list[tuple[Resource, dict[str, Any]]] = [
        (DEPLOYMENTS, {"spec": {"replicas": 0}}),
        (DEPLOYMENTS, {"metadata": {"ownerReferences": None}}),
        (DEPLOYMENTS, {"metadata": {"labels": {"app.kubernetes.io/managed-by": "me", "pointsman.dev/backend": "x"}}}),
        (SERVICES, {"spec": {"ports": [{"name": "http", "port": 11434, "targetPort": 1}]}}),
        (SERVICES, {"metadata": {"labels": None}}),
        (CLAIMS, {"metadata": {"labels": {"pointsman.dev/backend": None}}}),
    ]
    for resource, body in spoilt:
        await change(api, resource, namespace, "pmb-b", body)
        await bench.settle()
    containers = first["spec"]["template"]["spec"]["containers"]
    broken = [{**containers[0], "image": "example.test/other:1"}]
    await change(api, DEPLOYMENTS, namespace, "pmb-b", {"spec": {"template": {"spec": {"containers": broken}}}})
    await bench.settle()
    last = await Client(api).get(DEPLOYMENTS, namespace, "pmb-b")
    assert last is not None
    assert last["spec"] == first["spec"]
    for key in ("labels", "ownerReferences"):
        assert last["metadata"][key] == first["metadata"][key]
    service = await Client(api).get(SERVICES, namespace, "pmb-b")
    assert service is not None
    assert service["spec"]["ports"][0]["targetPort"] == "http"
    assert service["metadata"]["labels"]["pointsman.dev/backend"] == "b"
    await Client(api).delete(SERVICES, namespace, "pmb-b", uid=uid_of(service))
    await bench.settle()
    assert await Client(api).get(SERVICES, namespace, "pmb-b") is not None


async def test_suspended_backend_is_left_as_it_is(api: Connection, bench: Bench, namespace: str) -> None:
    await Client(api).create(ollama("b", namespace))
    await make_ready(api, bench)
    await change(api, BACKENDS, namespace, "b", {"spec": {"suspend": True}})
    await bench.settle()
    backend = await bench.backend("b")
    assert says(backend, "Reconciling") == ("False", "Suspended")
    assert says(backend, "Ready") == ("True", "Ready"), "nothing is different from what it should be"
    await change(api, BACKENDS, namespace, "b", {"spec": {"replicas": 2}})
    await bench.settle()
    deployment = await Client(api).get(DEPLOYMENTS, namespace, "pmb-b")
    assert deployment is not None
    assert deployment["spec"]["replicas"] == 1
    assert says(await bench.backend("b"), "Ready") == ("False", "Suspended")
    await change(api, BACKENDS, namespace, "b", {"spec": {"suspend": False}})
    await bench.settle()
    deployment = await Client(api).get(DEPLOYMENTS, namespace, "pmb-b")
    assert deployment is not None
    assert deployment["spec"]["replicas"] == 2


async def test_ready_is_never_true_for_a_generation_that_is_not_carried_out(
    api: Connection, bench: Bench, namespace: str
) -> None:
    await Client(api).create(ollama("b", namespace))
    await make_ready(api, bench)
    changed = await change(api, BACKENDS, namespace, "b", {"spec": {"image": "example.test/ollama:2"}})
    await bench.look()
    await bench.visit()
    backend = await bench.backend("b")
    ready = condition(backend, "Ready")
    assert (ready["status"], ready["observedGeneration"]) == ("False", changed["metadata"]["generation"])

    async def rolled() -> bool:
        for pod in await paper.pods_of(api, namespace, "pointsman.dev/backend=b"):
            is_new = pod["spec"]["containers"][0]["image"] == "example.test/ollama:2"
            if is_new and pod["spec"].get("nodeName") and pod["status"].get("phase") == "Pending":
                assert says(await bench.backend("b"), "Ready")[0] == "False"
                await paper.run(api, pod)
            old, _ = await Client(api).list(PODS, namespace, labels="pointsman.dev/backend=b")
            for left in (p for p in old if p["metadata"].get("deletionTimestamp")):
                await api.request("DELETE", PODS.path(namespace, left["metadata"]["name"]),
                                  body={"gracePeriodSeconds": 0})  # fmt: skip
        await bench.settle()
        return says(await bench.backend("b"), "Ready")[0] == "True"

    await eventually(rolled)
    assert (await bench.backend("b"))["status"]["image"] == "example.test/ollama:2"


async def test_upgrade_of_the_operator_restarts_nothing(api: Connection, bench: Bench, namespace: str) -> None:
    await Client(api).create(ollama("b", namespace))
    await make_ready(api, bench)
    before = await Client(api).get(DEPLOYMENTS, namespace, "pmb-b")
    newer = bench.context.settings.model_copy(
        update={
            "image": "example.test/pointsman:2",
            "engines": bench.context.settings.engines.model_copy(
                update={"ollama": bench.context.settings.engines.ollama.model_copy(update={"image": "x.test/ollama:9"})}
            ),
        }
    )
    upgraded = Bench(bench.connection, namespace, newer)
    await upgraded.settle()
    await upgraded.close()
    after = await Client(api).get(DEPLOYMENTS, namespace, "pmb-b")
    assert before is not None
    assert after is not None
    assert after["metadata"]["generation"] == before["metadata"]["generation"]
    assert [w for w in upgraded.client.writes if "Job" in w or "pmb-" in w] == []
