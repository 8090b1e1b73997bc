"""Pull Jobs on a real API server: when they start, stop, come back, and who shares one."""

from __future__ import annotations

from tests.operator import paper
from tests.operator.bench import Bench, condition, ollama, says
from tests.operator.conftest import eventually
from tests.operator.hands import (
    DENIED,
    DIGEST,
    allow_no_pods,
    change,
    job_ended,
    make_ready,
    one_job,
    pull_pod,
    server_pods,
)

from pointsman.controllers.pull_job import LONGEST_WAIT
from pointsman.kube.client import Client
from pointsman.kube.connect import MERGE_PATCH, Connection
from pointsman.kube.resources import BACKENDS, CLAIMS, JOBS, owner_uids, uid_of


async def test_pull_starts_once_the_server_has_a_node(api: Connection, bench: Bench, namespace: str) -> None:
    await Client(api).create(ollama("b", namespace, nodeSelector={"no-such": "node"}))
    await bench.settle()

    async def unschedulable() -> bool:
        await bench.settle()
        return says(await bench.backend("b"), "Ready") == ("False", "Unschedulable")

    await eventually(unschedulable)
    assert (await Client(api).list(JOBS, namespace))[0] == []
    assert says(await bench.backend("b"), "ModelsPulled") == ("False", "WaitingForPod")
    await change(api, BACKENDS, namespace, "b", {"spec": {"nodeSelector": None}})
    await bench.settle()
    (server,) = await server_pods(api, namespace, "b")
    await bench.settle()
    pull = await pull_pod(api, namespace)
    label = {"pointsman.dev/volume": "pmb-b"}
    for pod in (server, pull):
        assert label.items() <= pod["metadata"]["labels"].items()
        (term,) = pod["spec"]["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        assert term["labelSelector"]["matchLabels"] == label


async def test_permanent_failure_stops_the_pull_and_reconcile_now_starts_it_again(
    api: Connection, bench: Bench, namespace: str
) -> None:
    await Client(api).create(ollama("b", namespace))
    await bench.settle()
    await server_pods(api, namespace, "b")
    await bench.settle()
    await paper.end(api, await pull_pod(api, namespace), 24, DENIED)
    job = await one_job(api, namespace)
    await job_ended(api, namespace, job["metadata"]["name"])
    await bench.settle()
    backend = await bench.backend("b")
    assert says(backend, "ModelsPulled") == ("False", "AccessDenied")
    assert says(backend, "Stalled") == ("True", "AccessDenied")
    assert says(backend, "Ready") == ("False", "AccessDenied")
    bench.ahead = 10 * LONGEST_WAIT
    await bench.settle()
    assert uid_of(await one_job(api, namespace)) == uid_of(job), "a permanent failure does not come back by itself"

    await change(api, BACKENDS, namespace, "b", {"metadata": {"annotations": {"pointsman.dev/reconcile-at": "1"}}})
    await bench.settle()
    second = await one_job(api, namespace)
    assert uid_of(second) != uid_of(job)
    await bench.settle()
    assert uid_of(await one_job(api, namespace)) == uid_of(second), "one annotation starts one pull"


async def test_failure_that_may_heal_comes_back_after_a_while(api: Connection, bench: Bench, namespace: str) -> None:
    await Client(api).create(ollama("b", namespace))
    await bench.settle()
    await server_pods(api, namespace, "b")
    await bench.settle()
    job = await one_job(api, namespace)
    await change(api, JOBS, namespace, job["metadata"]["name"], {"spec": {"suspend": True}})
    now = paper._now()
    failed = [{"type": t, "status": "True", "reason": "BackoffLimitExceeded", "lastTransitionTime": now,
               "lastProbeTime": now} for t in ("FailureTarget", "Failed")]  # fmt: skip
    path = JOBS.path(namespace, job["metadata"]["name"], "status")

    async def given_up() -> bool:
        live = await Client(api).get(JOBS, namespace, job["metadata"]["name"])
        return bool(live and any(c["type"] == "Suspended" for c in live["status"].get("conditions") or ()))

    await eventually(given_up)
    body = {"status": {"conditions": failed, "startTime": now, "active": 0, "ready": 0, "terminating": 0}}
    await api.request("PATCH", path, body=body, content_type=MERGE_PATCH)
    out = await bench.settle()
    assert says(await bench.backend("b"), "ModelsPulled") == ("False", "PullFailed")
    assert says(await bench.backend("b"), "Stalled") == ("False", "NotStalled")
    wait = out[f"LLMBackend {namespace}/b"].seconds
    assert wait is not None
    assert 0 < wait <= 60
    bench.ahead = 61.0
    await bench.settle()
    second = await one_job(api, namespace)
    assert uid_of(second) != uid_of(job)
    assert second["metadata"]["annotations"]["pointsman.dev/round"] == "1"


async def test_pulled_model_is_not_pulled_again_when_its_job_is_gone(
    api: Connection, bench: Bench, namespace: str
) -> None:
    await Client(api).create(ollama("b", namespace))
    await make_ready(api, bench)
    job = await one_job(api, namespace)
    await Client(api).delete(JOBS, namespace, job["metadata"]["name"], uid=uid_of(job))
    await bench.settle()
    assert (await Client(api).list(JOBS, namespace))[0] == []
    backend = await bench.backend("b")
    assert says(backend, "Ready") == ("True", "Ready")
    assert backend["status"]["models"][0]["digest"] == DIGEST


async def test_backends_of_one_claim_share_a_pull(api: Connection, bench: Bench, namespace: str) -> None:
    metadata = {"name": "shared", "namespace": namespace}
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}
    await Client(api).create(claim)
    uids = []
    for name in ("a", "b"):
        uids.append(uid_of(await Client(api).create(ollama(name, namespace, storage={"existingClaim": "shared"}))))
    await bench.settle()
    for name in ("a", "b"):
        await server_pods(api, namespace, name)
    await bench.settle()
    job = await one_job(api, namespace)
    assert set(owner_uids(job)) == set(uids)
    await change(api, BACKENDS, namespace, "a", {"spec": {"models": [{"name": "m", "source": "ollama://other:1"}]}})
    await bench.settle()
    jobs, _ = await Client(api).list(JOBS, namespace)
    owners = {j["metadata"]["name"]: owner_uids(j) for j in jobs}
    assert owners[job["metadata"]["name"]] == (uids[1],), "still the pull of the other"
    assert sorted(owners.values()) == sorted([(uids[0],), (uids[1],)])
    left = await Client(api).get(CLAIMS, namespace, "shared")
    assert left is not None
    assert "ownerReferences" not in left["metadata"]
    assert "labels" not in left["metadata"], "an existing claim is not touched"


async def test_pull_whose_pod_is_refused_says_so(api: Connection, bench: Bench, namespace: str) -> None:
    await allow_no_pods(api, namespace)
    await Client(api).create(ollama("b", namespace, replicas=0))
    await bench.settle()
    bench.ahead = 11.0  # stuck by the operator's clock

    async def refused() -> bool:
        await bench.settle()
        seen = await bench.backend("b")
        bench.backends._events.clear()  # its Events are not read again for a while: here, at once
        return "quota" in condition(seen, "ModelsPulled")["message"]

    await eventually(refused)
