"""A backend and its children, on a real API server."""

from __future__ import annotations

from typing import Any

import pytest
from tests.cluster.plan import NODE
from tests.operator import paper
from tests.operator.bench import Bench, condition, external, ollama, route, says
from tests.operator.conftest import eventually

from pointsman.controllers.pull_job import LONGEST_WAIT
from pointsman.kube.client import Client
from pointsman.kube.connect import MERGE_PATCH, Connection
from pointsman.kube.resources import (
    BACKENDS,
    CLAIMS,
    DEPLOYMENTS,
    JOBS,
    PODS,
    SERVICES,
    Obj,
    Resource,
    owner_uids,
    resource_of,
    uid_of,
)

DIGEST = "sha256:" + "a" * 64
PULLED = '{"state":"Pulled","digest":"' + DIGEST + '","total_bytes":4600000}'
DENIED = '{"state":"Failed","exit_code":24,"permanent":true,"reason":"AccessDenied","message":"the token is refused"}'
AWAY = '{"state":"Failed","exit_code":31,"reason":"RegistryUnreachable","message":"no connection to the registry"}'


async def change(api: Connection, resource: Resource, namespace: str, name: str, body: dict[str, Any]) -> Obj:
    answer = await api.request("PATCH", resource.path(namespace, name), body=body, content_type=MERGE_PATCH)
    return dict(answer)


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


async def server_pods(api: Connection, namespace: str, name: str, count: int = 1) -> list[Obj]:
    """The backend's pods once the Deployment controller and the scheduler have done their part."""

    async def scheduled() -> list[Obj] | None:
        pods = await paper.pods_of(api, namespace, f"pointsman.dev/backend={name}")
        placed = [p for p in pods if p["spec"].get("nodeName")]
        return placed if len(placed) == count else None

    return await eventually(scheduled, what=f"{count} pods of {name}")


async def pull_pod(api: Connection, namespace: str) -> Obj:
    async def there() -> Obj | None:
        pods = await paper.pods_of(api, namespace, "app.kubernetes.io/component=pull")
        running = [p for p in pods if p["status"].get("phase") == "Pending"]
        return running[0] if running else None

    return await eventually(there, what="a pull pod")


async def job_ended(api: Connection, namespace: str, name: str) -> Obj:
    async def ended() -> Obj | None:
        job = await Client(api).get(JOBS, namespace, name)
        types = {c["type"] for c in ((job or {}).get("status") or {}).get("conditions") or ()}
        return job if types & {"Complete", "Failed"} else None

    return await eventually(ended, what=f"the end of {name}")


async def available(api: Connection, namespace: str, name: str) -> None:
    async def done() -> bool:
        d = await Client(api).get(DEPLOYMENTS, namespace, f"pmb-{name}")
        return bool(d and (d.get("status") or {}).get("availableReplicas"))

    await eventually(done, what=f"{name} available")


async def one_job(api: Connection, namespace: str) -> Obj:
    jobs, _ = await Client(api).list(JOBS, namespace)
    (job,) = jobs
    return job


async def make_ready(api: Connection, bench: Bench, name: str = "b") -> None:
    """Pods run and the model is pulled: everything a kubelet and a pull would do."""
    await bench.settle()
    for pod in await server_pods(api, bench.namespace, name):
        await paper.run(api, pod)
    await bench.settle()
    pod = await pull_pod(api, bench.namespace)
    await paper.end(api, pod, 0, PULLED)
    await job_ended(api, bench.namespace, pod["metadata"]["labels"]["pointsman.dev/pull"])
    await available(api, bench.namespace, name)
    await bench.settle()


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


async def test_missing_claim_is_said(api: Connection, bench: Bench, namespace: str) -> None:
    await Client(api).create(ollama("b", namespace, storage={"existingClaim": "nowhere"}))
    await bench.settle()
    assert says(await bench.backend("b"), "Ready") == ("False", "ClaimMissing")


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


@pytest.mark.parametrize(
    ("reason", "message", "last", "said"),
    [
        ("ImagePullBackOff", "Back-off pulling image", None, "ImagePullFailed"),
        ("CreateContainerConfigError", "secret not found", None, "ContainerConfigError"),
        ("CrashLoopBackOff", "back-off", {"exitCode": 1, "reason": "Error"}, "CrashLoop"),
        ("CrashLoopBackOff", "back-off", {"exitCode": 137, "reason": "OOMKilled"}, "OutOfMemory"),
    ],
)
async def test_ready_names_the_root_cause(
    api: Connection, bench: Bench, namespace: str, reason: str, message: str, last: dict[str, Any] | None, said: str
) -> None:
    await Client(api).create(ollama("b", namespace))
    await bench.settle()
    (pod,) = await server_pods(api, namespace, "b")
    await paper.waits(api, pod, reason, message, last)
    await bench.settle()
    backend = await bench.backend("b")
    assert says(backend, "Ready") == ("False", said)
    assert says(backend, "Available") == ("False", said)
    assert condition(backend, "Ready")["message"]


async def test_refused_pod_is_said_with_the_api_servers_words(api: Connection, bench: Bench, namespace: str) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
    await api.request("POST", f"/api/v1/namespaces/{namespace}/resourcequotas", body=quota)

    async def enforced() -> bool:
        live = await api.request("GET", f"/api/v1/namespaces/{namespace}/resourcequotas/none")
        return bool((live.get("status") or {}).get("hard"))

    await eventually(enforced)
    await Client(api).create(ollama("b", namespace))

    async def refused() -> bool:
        await bench.settle()
        return says(await bench.backend("b"), "Ready") == ("False", "PodRefused")

    await eventually(refused)
    assert "quota" in condition(await bench.backend("b"), "Ready")["message"]


async def test_pull_whose_pod_is_refused_says_so(api: Connection, bench: Bench, namespace: str) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
    await api.request("POST", f"/api/v1/namespaces/{namespace}/resourcequotas", body=quota)

    async def enforced() -> bool:
        live = await api.request("GET", f"/api/v1/namespaces/{namespace}/resourcequotas/none")
        return bool((live.get("status") or {}).get("hard"))

    await eventually(enforced)
    await Client(api).create(ollama("b", namespace, replicas=0))
    await bench.settle()
    bench.ahead = 11.0  # stuck by the operator's clock

    async def refused() -> bool:
        await bench.settle()
        seen = await bench.backend("b")
        bench.backends._events.clear()  # its Events are not read again for a while: here, at once
        return "quota" in condition(seen, "ModelsPulled")["message"]

    await eventually(refused)


async def test_refused_child_is_said_and_tried_again(api: Connection, bench: Bench, namespace: str) -> None:
    await Client(api).create(ollama("b", namespace, resources={"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}))
    out = await bench.settle()
    backend = await bench.backend("b")
    assert says(backend, "Ready") == ("False", "ApplyRefused")
    assert "must be less than or equal to cpu limit" in condition(backend, "Ready")["message"]
    assert out[f"LLMBackend {namespace}/b"].seconds is not None


async def test_external_is_unknown_without_a_report_and_names_a_missing_secret(
    api: Connection, bench: Bench, namespace: str
) -> None:
    await Client(api).create(external("free", namespace))
    await Client(api).create(external("paid", namespace, secret="key"))
    await bench.settle()
    assert says(await bench.backend("free"), "Ready") == ("Unknown", "NoReport")
    paid = await bench.backend("paid")
    assert says(paid, "Ready") == ("False", "SecretMissing")
    assert says(paid, "Available") == ("True", "NotOursToRun")
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "key", "namespace": namespace},
              "stringData": {"api-key": "sk-not-to-be-seen"}}  # fmt: skip
    await Client(api).create(secret)

    async def noticed() -> bool:
        await bench.settle()
        return says(await bench.backend("paid"), "Ready") == ("Unknown", "NoReport")

    await eventually(noticed)
    assert "sk-not-to-be-seen" not in repr(bench.context.__dict__) + repr(bench.secrets.__dict__)


async def test_a_missing_ca_bundle_is_said_until_it_is_there(api: Connection, bench: Bench, namespace: str) -> None:
    held = {"url": "https://a.example.test/v1", "caBundleRef": {"name": "corp-ca"}}
    await Client(api).create(external("b", namespace, external=held))
    await Client(api).create(route("r", namespace, ["chat"], "b"))
    await bench.settle()
    backend = await bench.backend("b")
    sentence = "ConfigMap corp-ca does not exist: create it with the CA's certificate in PEM under ca.crt"
    assert says(backend, "Ready") == ("False", "CaBundleMissing")
    assert condition(backend, "Ready")["message"] == sentence
    refs = condition(await bench.route("r"), "ResolvedRefs")
    assert (refs["status"], refs["reason"]) == ("False", "CaBundleMissing")
    assert refs["message"] == f"LLMBackend b: {sentence}"
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "corp-ca", "namespace": namespace}}
    config_map["data"] = {"ca.crt": "-----BEGIN CERTIFICATE-----\nMAAA\n-----END CERTIFICATE-----\n"}
    await api.request("POST", f"/api/v1/namespaces/{namespace}/configmaps", body=config_map)

    async def noticed() -> bool:
        await bench.settle()
        return says(await bench.backend("b"), "Ready") == ("Unknown", "NoReport")

    await eventually(noticed)
    assert says(await bench.route("r"), "ResolvedRefs") == ("True", "Resolved")
