"""The operator ends at every single call it makes, and a new one takes over: the cluster comes to the same rest.

The scenario is run once whole to count its calls, then once for each call, cut before it, after it, or failed at it.
"""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import pytest
from tests.operator.bench import Bench, Killed, external, ollama, route, says
from tests.operator.conftest import eventually

from pointsman.kube.client import Client
from pointsman.kube.connect import MERGE_PATCH, Connection
from pointsman.kube.resources import BACKENDS, CLAIMS, DEPLOYMENTS, OURS, OWNED, PODS, ROUTES, Obj, uid_of

IGNORED = {"uid", "resourceVersion", "creationTimestamp", "generation", "managedFields", "selfLink"}
CHANGING = (BACKENDS, ROUTES, DEPLOYMENTS, CLAIMS, PODS)
"""What users and controllers change in the scenario."""
NO_POD = {"nodeSelector": {"no-such": "node"}}
"""What the scheduler and a kubelet do takes time of its own; this is about the operator."""


async def scenario(api: Connection, bench: Bench, step: int) -> None:
    """What users do, in three steps."""
    client, namespace = Client(api), bench.namespace
    match step:
        case 0:
            await client.create(ollama("a", namespace, replicas=0, **NO_POD))
            await client.create(external("x", namespace, secret="key"))
            await client.create(route("r", namespace, ["chat"], "a", "x"))
        case 1:
            body = {"spec": {"replicas": 2, "models": [{"name": "n", "source": "ollama://other:1"}]}}
            await api.request("PATCH", BACKENDS.path(namespace, "a"), body=body, content_type=MERGE_PATCH)
        case 2:
            live = await bench.backend("x")
            await client.delete(BACKENDS, namespace, "x", uid=uid_of(live))


def plain(value: Any, namespace: str) -> Any:
    """An object without what differs from run to run."""
    if isinstance(value, dict):
        return {k: plain(v, namespace) for k, v in value.items()
                if k not in IGNORED and not k.endswith(("Time", "Timestamp"))}  # fmt: skip
    if isinstance(value, list):
        return [plain(v, namespace) for v in value]
    return value.replace(namespace, "NS") if isinstance(value, str) else value


async def rest(api: Connection, namespace: str) -> dict[str, Any]:
    """What the operator made and says, by kind and name, without anything random."""
    out: dict[str, Any] = {}
    for resource in (*OURS, *(r for r in OWNED if r is not PODS)):
        for obj in (await Client(api).list(resource, namespace))[0]:
            name = obj["metadata"]["name"]
            if name in ("default", "kube-root-ca.crt"):
                continue
            shown: Obj = {**obj, "status": obj.get("status") if resource in OURS else None}
            shown.pop("data", None)
            spec = dict(shown.get("spec") or {})
            for key in ("clusterIP", "clusterIPs", "volumeName"):
                spec.pop(key, None)
            shown["spec"] = spec
            # Names and digests of pulls, and owners, follow from UIDs.
            metadata = shown["metadata"]
            metadata["annotations"] = sorted(metadata.get("annotations") or {})
            if resource.kind == "Job":
                name = "pull of " + str(obj["spec"]["template"]["spec"]["containers"][0]["args"][1])
                shown = {"args": obj["spec"]["template"]["spec"]["containers"][0]["args"], "owners": len(
                    metadata["ownerReferences"])}  # fmt: skip
            for model in (shown.get("status") or {}).get("models") or ():
                model.pop("pull", None)
            out[f"{resource.kind} {name}"] = plain(shown, namespace)
    return out


async def play(api: Connection, operator_api: Connection, namespace: str, **cut: int) -> tuple[dict[str, Any], int]:
    """Plays the scenario with the cut in the operator that begins it; gives the rest and the calls."""
    bench = Bench(operator_api, namespace, **cut)
    bench.again = CHANGING
    calls = 0
    for step in range(3):
        await scenario(api, bench, step)
        try:
            await bench.settle()
        except Killed:
            await bench.close()
            calls = bench.client.count
            bench = Bench(operator_api, namespace)  # a new process: no memory, whole lists
            bench.again = CHANGING
            await bench.settle()
    calls = calls or bench.client.count

    async def scheduler_has_said() -> bool:
        await bench.settle()
        seen = await bench.backend("a")
        return says(seen, "Ready")[1] == "Unschedulable" and seen["status"]["replicas"] == 2

    await eventually(scheduler_has_said)
    await bench.close()
    return await rest(api, namespace), calls


@pytest.fixture
async def spaces(api: Connection) -> Any:
    """Makes namespaces as they are asked for."""
    made: list[str] = []

    async def make(name: str) -> str:
        await api.request(
            "POST", "/api/v1/namespaces", body={"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        )
        made.append(name)
        return name

    yield make
    for name in made:
        await api.request("DELETE", f"/api/v1/namespaces/{name}")


@pytest.mark.parametrize("kind", ["before", "after", "fail"])
async def test_operator_may_end_at_any_call(
    api: Connection,
    operator_api: Connection,
    namespace: str,
    spaces: Any,
    kind: Literal["before", "after", "fail"],
) -> None:
    expected, calls = await play(api, operator_api, namespace)
    assert calls > 15
    assert "ModelRoute r" in expected
    assert "LLMBackend x" not in expected
    # Each cut is a whole run: a third of the calls for each kind of cut, so that every call is cut once.
    first = ["before", "after", "fail"].index(kind)
    at_once = asyncio.Semaphore(8)

    async def cut(number: int) -> None:
        async with at_once:
            space = await spaces(f"{namespace}-{kind}-{number}")
            found, _ = await play(api, operator_api, space, **{kind: number})
            assert found == expected, f"{kind} call {number}"

    async with asyncio.TaskGroup() as group:
        for number in range(first, calls, 3):
            group.create_task(cut(number))
