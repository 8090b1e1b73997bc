"""A replica on several nodes, by the real LeaderWorkerSet: its kind, its controller, its webhooks.

Pods are on paper: what vLLM's processes do with what they are told is shown in `tests/e2e_vllm`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.cluster import Cluster
from tests.operator import paper
from tests.operator.bench import Bench, condition, ollama, says
from tests.operator.conftest import eventually
from tests.operator.hands import PULLED, change, job_ended, pull_pod
from tests.operator.process import OperatorProcess
from tests.operator.test_process import get, turns
from tests.support import leader_worker_sets

from pointsman.controllers.backend import BackendController
from pointsman.kube.client import Client
from pointsman.kube.connect import MERGE_PATCH, Connection, NotFound
from pointsman.kube.resources import (
    BACKENDS,
    CLAIMS,
    DEPLOYMENTS,
    ENDPOINT_SLICES,
    LEADER_WORKER_SETS,
    SERVICES,
    Obj,
    owner_uids,
    uid_of,
)

HEAL_SECONDS = 40.0
"""The operator looks every 10."""
SERVE = "app.kubernetes.io/component=engine"
ALL = "pointsman.dev/backend=b"


def vllm(namespace: str, nodes: int | None = 2, **spec: Any) -> Obj:
    """An LLMBackend `b`, each replica on two nodes."""
    whole = {
        "engine": "VLLM", "image": "example.test/vllm:1", "models": [{"name": "m", "source": "hf://org/repo"}],
        "storage": {"accessMode": "ReadWriteMany", "size": "1Gi"}, "vllm": {"nodes": nodes} if nodes else {}, **spec,
    }  # fmt: skip
    metadata = {"name": "b", "namespace": namespace}
    return {"apiVersion": "pointsman.dev/v1alpha1", "kind": "LLMBackend", "metadata": metadata, "spec": whole}


async def test_kind_may_come_and_go_while_the_operator_runs(
    cluster: Cluster, api: Connection, operator_kubeconfig: Path, namespace: str, tmp_path: Path
) -> None:
    leader_worker_sets.remove(cluster)
    client = Client(api)
    async with OperatorProcess(operator_kubeconfig, tmp_path, namespace) as operator:
        await eventually(operator.leads, 30)
        await client.create(vllm(namespace))
        found = await turns(api, namespace, "b", "Ready", ("False", "NoLeaderWorkerSets"))
        assert "install it, or remove vllm.nodes" in condition(found, "Ready")["message"]
        assert says(found, "Stalled") == ("True", "NoLeaderWorkerSets")

        leader_worker_sets.install(cluster)

        async def there() -> Obj | None:
            return await client.get(LEADER_WORKER_SETS, namespace, "pmg-b")

        first = await eventually(there, HEAL_SECONDS, "a LeaderWorkerSet once there is such a kind")
        await turns(api, namespace, "b", "Stalled", ("False", "NotStalled"))
        # It is watched from now on.
        await client.delete(LEADER_WORKER_SETS, namespace, "pmg-b", uid=uid_of(first))

        async def back() -> bool:
            live = await there()
            return live is not None and uid_of(live) != uid_of(first)

        await eventually(back, 20, "what was deleted is there again")

        leader_worker_sets.remove(cluster)
        await turns(api, namespace, "b", "Ready", ("False", "NoLeaderWorkerSets"))
        # All else goes on.
        await client.create({**ollama("c", namespace)})

        async def other() -> Obj | None:
            return await client.get(DEPLOYMENTS, namespace, "pmb-c")

        made = await eventually(other, 20, "another backend's Deployment")
        await client.delete(DEPLOYMENTS, namespace, "pmb-c", uid=uid_of(made))

        async def repaired() -> bool:
            live = await other()
            return live is not None and uid_of(live) != uid_of(made)

        await eventually(repaired, 20, "its repair")
        assert await operator.leads()
        warnings = [line for line in operator.log.read_text().splitlines() if '"level": "warning"' in line]
        assert len(warnings) < 10, warnings[-5:]
        assert (await get(api, namespace, "b"))["status"]["observedGeneration"] == 1


@pytest.fixture(scope="module")
def controller(cluster: Cluster) -> Iterator[None]:
    """LeaderWorkerSet, installed."""
    leader_worker_sets.install(cluster)
    with leader_worker_sets.controller(cluster):
        yield
    leader_worker_sets.remove(cluster)


async def pods_of(api: Connection, namespace: str, count: int) -> list[Obj]:
    """The backend's pods, by name, once there are so many that are on a node and that nobody has ended."""

    async def placed() -> list[Obj] | None:
        pods = await paper.pods_of(api, namespace, ALL)
        return pods if len(pods) == count and all(p["spec"].get("nodeName") for p in pods) else None

    found = await eventually(placed, 40, f"{count} pods")
    return sorted(found, key=lambda p: str(p["metadata"]["name"]))


async def make_ready(api: Connection, bench: Bench, pods: int = 2) -> list[Obj]:
    """What kubelets and a pull would do."""
    await bench.settle()
    pull = await eventually(lambda: pull_pod(api, bench.namespace), what="a pull") if not await pulled(bench) else None
    if pull is not None:
        await paper.end(api, pull, 0, PULLED)
        await job_ended(api, bench.namespace, pull["metadata"]["labels"]["pointsman.dev/pull"])
    return await all_run(api, bench, pods)


async def pulled(bench: Bench) -> bool:
    return says(await bench.backend("b"), "ModelsPulled") == ("True", "Pulled")


async def all_run(api: Connection, bench: Bench, pods: int) -> list[Obj]:
    """All pods run and are ready, and the operator has seen it."""
    found = await pods_of(api, bench.namespace, pods)
    for number, pod in enumerate(found, 10):
        await paper.run(api, pod, f"10.9.9.{number}")
    await until(bench, ("True", "Ready"))
    return found


async def until(bench: Bench, wanted: tuple[str, str]) -> Obj:
    async def so() -> Obj | None:
        await bench.settle()
        found = await bench.backend("b")
        return found if says(found, "Ready") == wanted else None

    try:
        return await eventually(so, 30)
    except AssertionError:
        raise AssertionError(f"not {wanted}: {condition(await bench.backend('b'), 'Ready')}") from None


async def end_the_ending(api: Connection, namespace: str) -> None:
    """Nodes end the pods that are to end."""
    for pod in await paper.pods_of(api, namespace, ALL, ending=True):
        if pod["metadata"].get("deletionTimestamp"):
            with contextlib.suppress(NotFound):
                await paper.gone(api, pod)


def variables(pod: Obj) -> dict[str, str]:
    return {v["name"]: v.get("value", "") for v in pod["spec"]["containers"][0]["env"]}


async def addresses(api: Connection, namespace: str) -> set[str]:
    """To whom the gateways would send requests."""
    slices, _ = await Client(api).list(ENDPOINT_SLICES, namespace, labels=ALL)
    ends = [e for s in slices for e in s.get("endpoints") or () if e["conditions"].get("ready")]
    return {a for e in ends for a in e["addresses"]}


async def test_group_of_pods_from_its_yaml_to_ready(
    controller: None, api: Connection, bench: Bench, namespace: str
) -> None:
    made = await Client(api).create(vllm(namespace))
    leader, worker = await make_ready(api, bench)
    group = await Client(api).get(LEADER_WORKER_SETS, namespace, "pmg-b")
    assert group is not None
    assert owner_uids(group) == (uid_of(made),)
    assert [leader["metadata"]["name"], worker["metadata"]["name"]] == ["pmg-b-0", "pmg-b-0-1"]
    for pod, index in ((leader, "0"), (worker, "1")):
        said = variables(pod)
        assert (said["LWS_LEADER_ADDRESS"], said["LWS_WORKER_INDEX"]) == (f"pmg-b-0.pmg-b.{namespace}", index)
    assert worker["spec"]["containers"][0]["args"][-1] == "--headless"
    names = await Client(api).get(SERVICES, namespace, "pmg-b")
    assert names is not None
    assert names["spec"]["publishNotReadyAddresses"], "workers find a leader that is not ready yet"

    async def leader_only() -> bool:
        return await addresses(api, namespace) == {"10.9.9.10"}

    await eventually(leader_only, what="the leader alone takes requests")
    status = (await bench.backend("b"))["status"]
    assert (status["replicas"], status["readyReplicas"]) == (1, 1)
    before = len(bench.client.writes)
    await bench.settle()
    assert len(bench.client.writes) == before, "what webhooks and controllers filled in is no drift"


async def test_scaled_by_groups_down_to_none(controller: None, api: Connection, bench: Bench, namespace: str) -> None:
    await Client(api).create(vllm(namespace))
    await make_ready(api, bench)
    for replicas, pods in ((3, 6), (1, 2), (0, 0)):
        await change(api, BACKENDS, namespace, "b/scale", {"spec": {"replicas": replicas}})
        await bench.settle()

        async def ended(pods: int = pods) -> bool:
            """The node ends what is to end."""
            await end_the_ending(api, namespace)
            return len(await paper.pods_of(api, namespace, ALL, ending=True)) == pods

        await eventually(ended, 40, f"{pods} pods")
        if replicas:
            await all_run(api, bench, pods)
        else:
            await until(bench, ("True", "ScaledToZero"))
        scale = await api.request("GET", BACKENDS.path(namespace, "b", "scale"))
        assert scale["status"]["replicas"] == replicas
    assert SERVE in scale["status"]["selector"]


async def test_worker_that_ends_takes_its_group_along_and_its_last_words_stay(
    controller: None, api: Connection, bench: Bench, namespace: str
) -> None:
    await Client(api).create(vllm(namespace))
    leader, worker = await make_ready(api, bench)
    killed = {"exitCode": 137, "reason": "OOMKilled", "finishedAt": "2026-01-01T00:00:00Z",
              "startedAt": "2026-01-01T00:00:00Z"}  # fmt: skip
    state = {"name": "engine", "image": "i", "imageID": "", "ready": False, "started": False, "restartCount": 0}
    not_ready = [{"type": t, "status": "False"} for t in ("Ready", "ContainersReady")]
    await paper.report(api, worker, {"containerStatuses": [{**state, "state": {"terminated": killed}}],
                                     "conditions": not_ready})  # fmt: skip
    await until(bench, ("False", "OutOfMemory"))
    again = {**state, "restartCount": 1, "state": {"running": {}}, "lastState": {"terminated": killed}}
    await paper.report(api, worker, {"containerStatuses": [again]})

    async def anew() -> bool:
        await end_the_ending(api, namespace)
        now = {uid_of(p) for p in await paper.pods_of(api, namespace, ALL)}
        return len(now) == 2 and not now & {uid_of(leader), uid_of(worker)}

    await eventually(anew, 40, "all pods of the group anew")
    await bench.settle()
    assert says(await bench.backend("b"), "Ready") == ("False", "OutOfMemory"), "why the last ones ended"
    await all_run(api, bench, 2)


async def test_rollout_takes_groups_away_before_it_makes_new_ones(
    controller: None, api: Connection, bench: Bench, namespace: str
) -> None:
    await Client(api).create(vllm(namespace, replicas=2))
    old = {uid_of(p) for p in await make_ready(api, bench, 4)}
    await change(api, BACKENDS, namespace, "b", {"spec": {"vllm": {"maxModelLen": 512}}})
    await bench.settle()
    assert says(await bench.backend("b"), "Ready") == ("False", "Progressing")
    most = 0

    async def rolled_out() -> bool:
        nonlocal most
        there = await paper.pods_of(api, namespace, ALL, ending=True)
        most = max(most, len(there))
        await end_the_ending(api, namespace)
        for number, pod in enumerate(there, 10):
            if not pod["metadata"].get("deletionTimestamp") and pod["spec"].get("nodeName"):
                with contextlib.suppress(NotFound):
                    await paper.run(api, pod, f"10.9.9.{number}")
        left = {uid_of(p) for p in there}
        return len(there) == 4 and not left & old

    await eventually(rolled_out, 60, "every pod anew")
    assert most <= 4, "there may be no GPUs for more"
    await until(bench, ("True", "Ready"))


async def test_from_one_node_to_several_and_back(
    controller: None, api: Connection, bench: Bench, namespace: str
) -> None:
    await Client(api).create(vllm(namespace, nodes=None))
    (one,) = await make_ready(api, bench, 1)
    claim = await Client(api).get(CLAIMS, namespace, "pmb-b")
    assert claim is not None
    await change(api, BACKENDS, namespace, "b", {"spec": {"vllm": {"nodes": 2}}})
    await bench.settle()
    assert await Client(api).get(DEPLOYMENTS, namespace, "pmb-b") is None

    async def old_one_left() -> bool:
        """Ended by its node, when the controllers have said so."""
        await end_the_ending(api, namespace)
        return uid_of(one) not in {uid_of(p) for p in await paper.pods_of(api, namespace, ALL, ending=True)}

    await eventually(old_one_left, 40, "the Deployment's pod has left")
    two = await all_run(api, bench, 2)
    await change(api, BACKENDS, namespace, "b", {"spec": {"vllm": {"nodes": None}}})
    await bench.settle()

    async def groups_left() -> bool:
        await end_the_ending(api, namespace)
        now = {uid_of(p) for p in await paper.pods_of(api, namespace, ALL, ending=True)}
        return not now & {uid_of(p) for p in two}

    await eventually(groups_left, 40, "the group has left")
    await all_run(api, bench, 1)
    assert await Client(api).get(LEADER_WORKER_SETS, namespace, "pmg-b") is None
    after = await Client(api).get(CLAIMS, namespace, "pmb-b")
    assert after is not None
    assert uid_of(after) == uid_of(claim), "and the volume is the same"


async def test_worker_that_the_api_server_refuses_is_said_with_its_words_and_heals(
    controller: None, api: Connection, bench: Bench, namespace: str
) -> None:
    """The set that makes workers is LeaderWorkerSet's own."""
    await Client(api).create(vllm(namespace))
    await make_ready(api, bench)
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few", "namespace": namespace},
             "spec": {"hard": {"pods": "100"}}}  # fmt: skip
    path = f"/api/v1/namespaces/{namespace}/resourcequotas"
    await api.request("POST", path, body=quota)

    async def counted() -> int | None:
        """The pods that there are, gateways among them."""
        live = await api.request("GET", f"{path}/few")
        used = (live.get("status") or {}).get("used", {}).get("pods")
        return int(used) if used else None

    there = await eventually(counted, 40, "what the quota counts")
    one_more = {"spec": {"hard": {"pods": str(there + 1)}}}
    await api.request("PATCH", f"{path}/few", body=one_more, content_type=MERGE_PATCH)

    async def holds() -> bool:
        live = await api.request("GET", f"{path}/few")
        return bool(live["status"]["hard"] == one_more["spec"]["hard"])

    await eventually(holds, 40, "that the quota holds")
    await change(api, BACKENDS, namespace, "b/scale", {"spec": {"replicas": 2}})
    await bench.settle()
    await pods_of(api, namespace, 3)
    said: dict[str, Any] = {}

    async def refused() -> bool:
        nonlocal said
        bench.ahead += 60  # what was read of Events is old
        bench.backends = BackendController(bench.context)
        await bench.settle()
        said = condition(await bench.backend("b"), "Ready")
        return said["reason"] == "PodRefused"

    await eventually(refused, 40, "that a pod is refused")
    assert "exceeded quota" in said["message"]
    await api.request("DELETE", f"{path}/few")
    await all_run(api, bench, 4)


async def test_storage_of_one_node_is_refused_for_several(api: Connection, namespace: str) -> None:
    with pytest.raises(Exception, match=r"set storage\.accessMode to ReadWriteMany, or storage\.mode to PerPod"):
        await Client(api).create(vllm(namespace, storage={"size": "1Gi"}))
