"""What the tests of backends do on an API server in place of users, kubelets and pulls."""

from __future__ import annotations

from typing import Any

from tests.operator import paper
from tests.operator.bench import Bench, says
from tests.operator.conftest import eventually

from pointsman.kube.client import Client
from pointsman.kube.connect import MERGE_PATCH, Connection
from pointsman.kube.resources import BACKENDS, DEPLOYMENTS, JOBS, Obj, Resource

DIGEST = "sha256:" + "a" * 64
PULLED = '{"state":"Pulled","digest":"' + DIGEST + '","total_bytes":4600000}'
DENIED = '{"state":"Failed","exit_code":24,"permanent":true,"reason":"AccessDenied","message":"the token is refused"}'


async def change(api: Connection, resource: Resource, namespace: str, name: str, body: dict[str, Any]) -> Obj:
    answer = await api.request("PATCH", resource.path(namespace, name), body=body, content_type=MERGE_PATCH)
    return dict(answer)


async def allow_no_pods(api: Connection, namespace: str) -> None:
    """From now on the API server refuses every new pod of the namespace."""
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
    await api.request("POST", f"/api/v1/namespaces/{namespace}/resourcequotas", body=quota)

    async def enforced() -> bool:
        live = await api.request("GET", f"/api/v1/namespaces/{namespace}/resourcequotas/none")
        return bool((live.get("status") or {}).get("hard"))

    await eventually(enforced)


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


async def ready_says(api: Connection, namespace: str, name: str, reason: str) -> Obj:
    """The backend once its Ready is False for this reason, by an operator that runs."""

    async def so() -> Obj | None:
        seen = await Client(api).get(BACKENDS, namespace, name)
        assert seen is not None
        has = (seen.get("status") or {}).get("conditions")
        return seen if has and says(seen, "Ready") == ("False", reason) else None

    return await eventually(so, what=f"Ready of {name} says {reason}")
