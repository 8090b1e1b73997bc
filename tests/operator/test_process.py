"""The operator's process on a real API server, with the rights it ships with: watches, reports, lease, idleness."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml
from tests.cluster.cluster import Cluster
from tests.operator import paper
from tests.operator.bench import condition, external, ollama, route, says
from tests.operator.conftest import eventually
from tests.operator.hands import pull_pod, server_pods
from tests.operator.installed import SYSTEM
from tests.operator.process import OperatorProcess
from tests.operator.worker import Worker, address, token_of

from pointsman.domain.report import (
    BackendHealth,
    FallbackEvent,
    GatewayReport,
    PullProgress,
    PullReport,
    RouteReport,
    TargetState,
)
from pointsman.kube.client import Client
from pointsman.kube.connect import MERGE_PATCH, Connection
from pointsman.kube.lease import DURATION_SECONDS
from pointsman.kube.rbac import lease_rules, rules
from pointsman.kube.reflector import Items, Reflector, Selection
from pointsman.kube.resources import BACKENDS, DEPLOYMENTS, LEASES, ROUTES, Obj, uid_of

REPAIR_SECONDS = 2.0
CRASH_SECONDS = 20.0
SLACK = 15.0
"""Noisy machines: a test allows fifteen times the promise, where the promise is not a lease's."""


async def get(api: Connection, namespace: str, name: str) -> Obj:
    found = await Client(api).get(BACKENDS if name != "r" else ROUTES, namespace, name)
    assert found is not None
    return found


async def turns(api: Connection, namespace: str, name: str, kind: str, wanted: tuple[str, str]) -> Obj:
    """The object once its condition says so."""

    async def so() -> Obj | None:
        seen = await get(api, namespace, name)
        has = (seen.get("status") or {}).get("conditions")
        return seen if has and says(seen, kind) == wanted else None

    return await eventually(so, what=f"{name} {kind} {wanted}")


async def test_changes_are_noticed_and_drift_is_repaired(
    api: Connection, operator_kubeconfig: Path, namespace: str, tmp_path: Path
) -> None:
    async with OperatorProcess(operator_kubeconfig, tmp_path, namespace) as operator:
        await eventually(operator.leads, 90)
        await Client(api).create(ollama("b", namespace))

        async def there() -> Obj | None:
            return await Client(api).get(DEPLOYMENTS, namespace, "pmb-b")

        first = await eventually(there)
        await Client(api).delete(DEPLOYMENTS, namespace, "pmb-b", uid=uid_of(first))

        async def back() -> bool:
            live = await there()
            return live is not None and uid_of(live) != uid_of(first)

        await eventually(back, SLACK * REPAIR_SECONDS)
        body = {"metadata": {"labels": {"app.kubernetes.io/managed-by": "nobody"}}, "spec": {"replicas": 0}}
        await api.request("PATCH", DEPLOYMENTS.path(namespace, "pmb-b"), body=body, content_type=MERGE_PATCH)

        async def repaired() -> bool:
            live = await there()
            return bool(
                live
                and live["spec"]["replicas"] == 1
                and live["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "pointsman"
            )

        await eventually(repaired, SLACK * REPAIR_SECONDS)
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "key", "namespace": namespace},
                  "stringData": {"api-key": "sk-never-shown"}}  # fmt: skip
        await Client(api).create(external("x", namespace, secret="key"))
        await turns(api, namespace, "x", "Ready", ("False", "SecretMissing"))
        await Client(api).create(secret)
        await turns(api, namespace, "x", "Ready", ("Unknown", "NoReport"))
        assert "sk-never-shown" not in operator.log.read_text()

        # At rest: the lease is renewed, and nothing else is called.
        async def at_rest() -> bool:
            before = await operator.calls()

            async def renewed() -> dict[str, float] | None:
                now = await operator.calls()
                return now if now.get("replace", 0) >= before.get("replace", 0) + 1 else None

            now = await eventually(renewed)
            return all(now[v] == before.get(v) for v in now if v not in ("get", "replace"))

        await eventually(at_rest, 120)


async def test_reports_become_conditions(
    api: Connection, operator_kubeconfig: Path, namespace: str, tmp_path: Path
) -> None:
    client = Client(api)
    await client.create(ollama("b", namespace))
    await client.create(external("x", namespace))
    await client.create(route("r", namespace, ["chat"], "b", "x"))
    async with OperatorProcess(operator_kubeconfig, tmp_path) as operator:
        await eventually(operator.leads, 90)
        token = await eventually(lambda: token_of(api, namespace))
        (server,) = await server_pods(api, namespace, "b")
        await paper.run(api, server)
        pull = await pull_pod(api, namespace)
        at = address()
        async with Worker(at, 9091, token) as worker:
            await paper.run(api, pull, at)
            half = PullProgress(state="Pulling", completed_bytes=43 * 10**7, total_bytes=10**9, bytes_per_second=10**7,
                                eta_seconds=57)  # fmt: skip
            await worker.say(PullReport(source="ollama://tiny:1", progress=half, at=time.time()))

            async def shown() -> Obj | None:
                seen = await get(api, namespace, "b")
                return seen if (seen.get("status") or {}).get("modelsSummary", "").startswith("43 %") else None

            seen = await eventually(shown)
            assert seen["status"]["models"][0]["progress"] == "43 % of 1.0 GB, 10.0 MB/s, 57 s left"
            assert says(seen, "ModelsPulled") == ("False", "Pulling")

        async def gateways() -> list[Obj] | None:
            pods = await paper.pods_of(api, namespace, "app.kubernetes.io/component=gateway")
            return pods if len(pods) == 2 and all(p["spec"].get("nodeName") for p in pods) else None

        one, two = await eventually(gateways)
        first, second = address(), address()
        async with Worker(first, 9090, token) as a, Worker(second, 9090, token) as b:
            await paper.run(api, one, first)
            await paper.run(api, two, second)
            await a.say(_report("Healthy", ("Ready", "Ready")))
            await b.say(_report("Healthy", ("Ready", "Ready")))
            await turns(api, namespace, "x", "Ready", ("True", "Ready"))
            seen = await turns(api, namespace, "r", "Serving", ("True", "Serving"))
            assert says(seen, "FallbackArmed") == ("True", "Armed")
            assert says(seen, "Ready") == ("True", "Ready")

            # One of two says otherwise: a tie keeps what was said; both: it turns.
            await a.say(_report("Unhealthy", ("Unhealthy", "Ready"), fallback=True))

            async def told() -> Obj | None:
                seen = await get(api, namespace, "r")
                return seen if (seen["status"].get("lastFallback") or {}).get("reason") == "Failure" else None

            seen = await eventually(told)
            assert seen["status"]["lastFallback"]["fromBackend"] == "b"
            backend = await turns(api, namespace, "x", "Healthy", ("True", "Answering"))
            await b.say(_report("Unhealthy", ("Unhealthy", "Ready")))
            backend = await turns(api, namespace, "x", "Ready", ("False", "Unhealthy"))
            assert "refused" in condition(backend, "Healthy")["message"]
            seen = await turns(api, namespace, "r", "FallbackArmed", ("False", "OneUsableTarget"))
            assert "only x/m" in condition(seen, "FallbackArmed")["message"]
            assert a.refused == b.refused == 0
        for pod in (one, two):
            status = [{"type": "Ready", "status": "False"}]
            await paper.report(api, pod, {"conditions": status})
        await turns(api, namespace, "r", "Serving", ("False", "GatewayNotReady"))


def _report(health: str, states: tuple[str, str], *, fallback: bool = False) -> GatewayReport:
    now = time.time()
    targets = tuple(TargetState(backend=b, model="m", state=s) for b, s in zip("bx", states, strict=True))
    last = FallbackEvent(at=now, from_backend="b", to_backend="x", reason="Failure") if fallback else None
    health_of_x = BackendHealth(name="x", generation=1, state=health, message="connection refused", since=now)
    routes = (RouteReport(name="r", generation=1, serving=True, targets=targets, last_fallback=last),)
    return GatewayReport(gateway="g", at=now, backends=(health_of_x,), routes=routes)


@asynccontextmanager
async def holders(api: Connection) -> AsyncIterator[list[str]]:
    """Who holds the operators' lease, one after the other, nobody too."""
    seen: list[str] = []

    def changed(items: Items) -> None:
        for lease in items.values():
            holder = lease["spec"].get("holderIdentity") or ""
            if seen[-1:] != [holder]:
                seen.append(holder)

    reflector = Reflector(api, Selection("coordination.k8s.io", "v1", "leases", SYSTEM), changed)
    task = asyncio.create_task(reflector.run())
    try:
        await asyncio.wait_for(reflector.synced.wait(), 30)
        yield seen
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def changed_hands(seen: list[str]) -> bool:
    return len(seen) > 2


async def test_next_operator_takes_over(
    api: Connection, operator_kubeconfig: Path, namespace: str, tmp_path: Path
) -> None:
    """Gracefully at once; after a crash when the lease has run out."""
    async with OperatorProcess(operator_kubeconfig, tmp_path, namespace) as first:
        await eventually(first.leads, 90)
        async with OperatorProcess(operator_kubeconfig, tmp_path, namespace) as second:

            async def stands_by() -> bool:
                return (await second.metrics()).get("pointsman_operator_leader") == 0.0

            await eventually(stands_by, 90)
            async with holders(api) as seen:
                first.process.send_signal(signal.SIGTERM)
                await eventually(second.leads)
                await eventually(lambda: changed_hands(seen))
            assert seen[1] == "", "it was released: the next one need not wait until it has run out"
            assert first.process.wait(60) == 0
            async with OperatorProcess(operator_kubeconfig, tmp_path, namespace) as third:

                async def waits() -> bool:
                    return (await third.metrics()).get("pointsman_operator_leader") == 0.0

                await eventually(waits, 90)
                second.process.kill()
                second.process.wait(60)
                await eventually(third.leads, 3 * CRASH_SECONDS)
    lease = await Client(api).get(LEASES, SYSTEM, "pointsman-operator")
    assert lease is not None
    assert lease["spec"]["holderIdentity"] == "", "the last one released it"


async def test_an_operator_that_is_started_again_in_its_pod_goes_on_with_its_lease(
    api: Connection, operator_kubeconfig: Path, namespace: str, tmp_path: Path
) -> None:
    async with OperatorProcess(operator_kubeconfig, tmp_path, namespace, pod_uid="u-1") as first:
        await eventually(first.leads, 90)
        async with holders(api) as seen:
            first.process.kill()
            first.process.wait(60)
            began = time.monotonic()
            async with OperatorProcess(operator_kubeconfig, tmp_path, namespace, pod_uid="u-1") as second:
                await eventually(second.leads, CRASH_SECONDS)
                assert time.monotonic() - began < DURATION_SECONDS, "it waited until the lease had run out"
                assert len(seen) == 1, "it was never anybody else's"


@pytest.fixture
def narrow_kubeconfig(cluster: Cluster, operator_kubeconfig: Path, namespace: str, tmp_path: Path) -> Path:
    """Rights in one namespace only: no cluster role at all."""
    rbac = "rbac.authorization.k8s.io"
    subject = [{"kind": "ServiceAccount", "name": "narrow", "namespace": namespace}]
    objects = [{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "narrow", "namespace": namespace}}]
    for where, name, what in ((namespace, "narrow", rules()), (SYSTEM, f"narrow-{namespace}", lease_rules())):
        metadata = {"name": name, "namespace": where}
        role = {"apiGroup": rbac, "kind": "Role", "name": name}
        objects += [
            {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": metadata, "rules": what},
            {"apiVersion": f"{rbac}/v1", "kind": "RoleBinding", "metadata": metadata, "roleRef": role,
             "subjects": subject},
        ]  # fmt: skip
    cluster.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(objects))
    config = yaml.safe_load(operator_kubeconfig.read_text())
    config["users"][0]["user"]["token"] = cluster.kubectl("create", "token", "narrow", "-n", namespace).strip()
    path = tmp_path / "narrow.kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return path


async def test_namespaced_operator_needs_no_cluster_role(
    api: Connection, narrow_kubeconfig: Path, namespace: str, tmp_path: Path
) -> None:
    async with OperatorProcess(narrow_kubeconfig, tmp_path, namespace) as operator:
        await eventually(operator.leads, 90)
        await Client(api).create(ollama("b", namespace))
        await Client(api).create(external("x", namespace, secret="key"))
        seen = await turns(api, namespace, "b", "Stalled", ("False", "NotStalled"))
        assert says(seen, "Ready")[1] in ("WaitingForPod", "Pulling", "Starting")
        await turns(api, namespace, "x", "Ready", ("False", "SecretMissing"))

        async def gateway() -> Obj | None:
            return await Client(api).get(DEPLOYMENTS, namespace, "pointsman-gateway")

        await eventually(gateway)
