"""A backend's volume on a real API server: claims of its own and of others, and what outlives it."""

from __future__ import annotations

from tests.operator.bench import Bench, ollama, says
from tests.operator.conftest import eventually
from tests.operator.hands import server_pods

from pointsman.kube.client import Client
from pointsman.kube.connect import Connection
from pointsman.kube.resources import BACKENDS, CLAIMS, DEPLOYMENTS, JOBS, PODS, SERVICES, uid_of


async def test_missing_claim_is_said(api: Connection, bench: Bench, namespace: str) -> None:
    await Client(api).create(ollama("b", namespace, storage={"existingClaim": "nowhere"}))
    await bench.settle()
    assert says(await bench.backend("b"), "Ready") == ("False", "ClaimMissing")


async def test_deleting_a_backend_leaves_nothing_but_what_it_was_told_to_retain(
    api: Connection, bench: Bench, namespace: str
) -> None:
    await Client(api).create(ollama("gone", namespace))
    await Client(api).create(ollama("kept", namespace, storage={"retain": True}))
    await bench.settle()
    for name in ("gone", "kept"):
        await server_pods(api, namespace, name)
    await bench.settle()
    for name in ("gone", "kept"):
        live = await bench.backend(name)
        await Client(api).delete(BACKENDS, namespace, name, uid=uid_of(live))
        # What kubelets would do: a pod that is to go is gone.

    async def left() -> list[str] | None:
        for pod in (await Client(api).list(PODS, namespace))[0]:
            if pod["metadata"].get("deletionTimestamp"):
                await api.request("DELETE", PODS.path(namespace, pod["metadata"]["name"]),
                                  body={"gracePeriodSeconds": 0})  # fmt: skip
        names = []
        for resource in (DEPLOYMENTS, SERVICES, CLAIMS, JOBS, PODS):
            for obj in (await Client(api).list(resource, namespace))[0]:
                if not obj["metadata"]["name"].startswith("pointsman-gateway"):
                    names.append(f"{resource.kind} {obj['metadata']['name']}")
        return names if len(names) <= 1 else None

    assert await eventually(left, 30) == ["PersistentVolumeClaim pmb-kept"]
    await Client(api).create(ollama("kept", namespace, storage={"retain": True}))
    await bench.settle()
    assert says(await bench.backend("kept"), "Stalled")[0] == "False", "a retained claim is taken up again"
