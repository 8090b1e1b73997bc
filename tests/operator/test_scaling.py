"""The number of pods follows the requests that gateways tell of; HPA, KEDA and `kubectl scale` reach it by the scale
subresource. On a real API server with real controllers."""

from __future__ import annotations

import itertools
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.cluster.cluster import Cluster
from tests.operator import paper
from tests.operator.bench import Bench, Killed, condition, ollama, says
from tests.operator.conftest import eventually
from tests.operator.hands import change, make_ready, pull_pod, server_pods
from tests.operator.process import OperatorProcess
from tests.operator.worker import Worker, address, token_of

from pointsman.domain.report import BackendHealth, GatewayReport
from pointsman.kube.client import Client
from pointsman.kube.connect import Connection
from pointsman.kube.resources import BACKENDS, DEPLOYMENTS, EVENTS, JOBS, Obj, uid_of

UP_TO_FOUR = {"maxReplicas": 4, "targetInFlight": 8, "scaleUpWindow": "10s", "scaleDownWindow": "1m"}
SLACK = 5.0
"""Noisy machines: the test allows five times the promise."""
TO_NONE = {"minReplicas": 0, "maxReplicas": 4, "targetInFlight": 8, "idleAfter": "2m"}


async def replicas(api: Connection, namespace: str) -> int:
    live = await Client(api).get(DEPLOYMENTS, namespace, "pmb-b")
    assert live is not None
    return int(live["spec"]["replicas"])


async def gateways(api: Connection, namespace: str) -> list[Obj]:
    """Both gateways, ready."""

    async def there() -> list[Obj] | None:
        pods = await paper.pods_of(api, namespace, "app.kubernetes.io/component=gateway")
        return pods if len(pods) == 2 and all(p["spec"].get("nodeName") for p in pods) else None

    pods = await eventually(there, what="two gateways")
    for pod in pods:
        await paper.run(api, pod)
    return pods


def report(requests: int = 0, active_at: float = 0.0, at: float | None = None) -> GatewayReport:
    health = BackendHealth(name="b", generation=1, state="Healthy", waiting=requests, active_at=active_at)
    return GatewayReport(gateway="g", at=time.time() if at is None else at, backends=(health,))


class Told:
    """The two gateways of a bench, and what each says of backend `b`."""

    def __init__(self, bench: Bench, pods: list[Obj]) -> None:
        self._bench = bench
        self._pods = pods

    async def say(self, *requests: int, ahead: float = 0.0, active_at: float = 0.0) -> dict[str, Any]:
        """One figure for each gateway that says something, `ahead` seconds later; then the operator settles."""
        self._bench.ahead += ahead
        now = self._bench.now()
        for pod, number in zip(self._pods, requests, strict=False):
            self._bench.context.reports.keep(uid_of(pod), report(number, active_at, now))
        return await self._bench.settle()


async def scaled(api: Connection, namespace: str) -> list[str]:
    found, _ = await Client(api).list(EVENTS, namespace)
    return [e["message"] for e in found if e["reason"] == "Scaled"]


async def test_the_number_of_pods_follows_the_requests_of_all_gateways(
    api: Connection, bench: Bench, namespace: str
) -> None:
    await Client(api).create(ollama("b", namespace, autoscaling=UP_TO_FOUR))
    await make_ready(api, bench)
    told = Told(bench, await gateways(api, namespace))
    await told.say(4, 4, ahead=20)
    assert await replicas(api, namespace) == 1
    await told.say(10, 10)
    await told.say(10, 10, ahead=11)
    assert await replicas(api, namespace) == 3
    backend = await bench.backend("b")
    status = backend["status"]["autoscaling"]
    assert status["replicas"] == 3
    assert status["message"].endswith("→ 3: 20 requests in flight or waiting, target 8 for each pod")
    assert status["lastScaleTime"]
    assert status["lastActivityTime"]
    assert says(backend, "Ready") == ("True", "Ready"), "one pod serves: that others come is no trouble"

    await told.say(1, 0, ahead=1)
    await told.say(1, 0, ahead=11)
    assert await replicas(api, namespace) == 3
    again = await told.say(1, 0, ahead=40)
    assert await replicas(api, namespace) == 3
    assert (again[f"LLMBackend {namespace}/b"].seconds or 999) <= 60, "nobody need report for pods to go"
    await told.say(1, 0, ahead=25)
    assert await replicas(api, namespace) == 1
    events = await scaled(api, namespace)
    assert status["message"] in events
    assert "3 → 1: more were not needed for 1m" in events


async def test_no_pod_goes_while_a_ready_gateway_is_silent(api: Connection, bench: Bench, namespace: str) -> None:
    await Client(api).create(ollama("b", namespace, replicas=3, autoscaling=UP_TO_FOUR))
    await bench.settle()
    assert await replicas(api, namespace) == 3, "spec.replicas is what it starts with"
    told = Told(bench, await gateways(api, namespace))
    await told.say(0)
    for _ in range(5):
        await told.say(0, ahead=60)
    assert await replicas(api, namespace) == 3
    await told.say(0, 0)
    assert await replicas(api, namespace) == 1


async def test_a_new_operator_keeps_the_number_that_it_finds(api: Connection, bench: Bench, namespace: str) -> None:
    await Client(api).create(ollama("b", namespace, autoscaling=UP_TO_FOUR))
    await make_ready(api, bench)
    pods = await gateways(api, namespace)
    told = Told(bench, pods)
    await told.say(16, 14, ahead=20)
    await told.say(16, 14, ahead=20)
    assert await replicas(api, namespace) == 4
    successor = Bench(bench.connection, namespace)
    successor.ahead = bench.ahead
    await successor.settle()
    assert await replicas(api, namespace) == 4
    told = Told(successor, pods)
    await told.say(0, 1)
    await told.say(0, 1, ahead=11)
    await told.say(0, 1, ahead=45)
    assert await replicas(api, namespace) == 4, "it has not seen a whole window"
    await told.say(0, 1, ahead=20)
    assert await replicas(api, namespace) == 1
    await successor.close()


async def test_the_operator_may_end_at_any_call_while_it_scales(api: Connection, bench: Bench, namespace: str) -> None:
    """Whatever was done when it ended, the next one finds a number that was right, and comes to the same. Each call is
    cut once: before it, after it, or failed at it."""
    await Client(api).create(ollama("b", namespace, autoscaling=UP_TO_FOUR))
    await make_ready(api, bench)
    pods = await gateways(api, namespace)
    ahead = 100.0
    for number, kind in enumerate(itertools.cycle(("before", "after", "fail"))):
        await change(api, DEPLOYMENTS, namespace, "pmb-b", {"spec": {"replicas": 1}})
        cut = Bench(bench.connection, namespace, **{kind: number})
        cut.ahead = ahead = ahead + 100
        told = Told(cut, pods)
        with suppress(Killed):
            await told.say(10, 10)
            await told.say(10, 10, ahead=11)
        await cut.close()
        assert 1 <= await replicas(api, namespace) <= 3
        following = Bench(bench.connection, namespace)
        following.ahead = ahead + 20
        told = Told(following, pods)
        await told.say(10, 10)
        await told.say(10, 10, ahead=11)
        assert await replicas(api, namespace) == 3, f"{kind} call {number}"
        await following.close()
        if cut.client.count <= number:
            assert number > 3
            return


async def test_nobody_else_writes_the_number(cluster: Cluster, api: Connection, bench: Bench, namespace: str) -> None:
    await Client(api).create(ollama("b", namespace, autoscaling=UP_TO_FOUR))
    await make_ready(api, bench)
    await change(api, DEPLOYMENTS, namespace, "pmb-b", {"spec": {"replicas": 4}})
    await bench.settle()
    assert await replicas(api, namespace) == 1
    cluster.kubectl("-n", namespace, "scale", "pmb/b", "--replicas=3")
    await bench.settle()
    assert await replicas(api, namespace) == 1, "with autoscaling spec.replicas is only what it starts with"


async def test_without_autoscaling_kubectl_scale_decides(
    cluster: Cluster, api: Connection, bench: Bench, namespace: str
) -> None:
    await Client(api).create(ollama("b", namespace))
    await make_ready(api, bench)
    cluster.kubectl("-n", namespace, "scale", "pmb/b", "--replicas=2")
    await bench.settle()
    assert await replicas(api, namespace) == 2
    assert "autoscaling" not in (await bench.backend("b"))["status"]
    cluster.kubectl("-n", namespace, "scale", "pmb/b", "--current-replicas=2", "--replicas=0")

    async def at_rest() -> bool:
        await bench.settle()
        return says(await bench.backend("b"), "Ready") == ("True", "ScaledToZero")

    await eventually(at_rest)


async def test_the_real_horizontal_pod_autoscaler_scales_a_backend(
    cluster: Cluster, api: Connection, bench: Bench, namespace: str
) -> None:
    """It reads and writes the scale subresource, as KEDA does through it; below its minimum it needs no metrics."""
    await Client(api).create(ollama("b", namespace))
    await make_ready(api, bench)
    target = {"apiVersion": "pointsman.dev/v1alpha1", "kind": "LLMBackend", "name": "b"}
    cpu = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}
    metrics = [{"type": "Resource", "resource": cpu}]
    body = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "b"},
        "spec": {"scaleTargetRef": target, "minReplicas": 3, "maxReplicas": 5, "metrics": metrics},
    }
    path = f"/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers"
    await api.request("POST", path, body=body)

    async def taken() -> bool:
        return bool((await bench.backend("b"))["spec"]["replicas"] == 3)

    await eventually(taken, seconds=180, what="the HPA's number")
    await bench.settle()
    assert await replicas(api, namespace) == 3
    await server_pods(api, namespace, "b", 3)
    await bench.settle()
    answer = await api.request("GET", BACKENDS.path(namespace, "b", "scale"))
    assert answer["status"] == {"replicas": 3, "selector": "pointsman.dev/backend=b,app.kubernetes.io/component=engine"}


async def test_the_last_pod_goes_and_the_next_request_brings_one_back(
    api: Connection, bench: Bench, namespace: str
) -> None:
    await Client(api).create(ollama("b", namespace, autoscaling=TO_NONE))
    await make_ready(api, bench)
    told = Told(bench, await gateways(api, namespace))
    await told.say(1, 0)
    last = bench.now()
    await told.say(0, 0, active_at=last)
    await told.say(0, 0, ahead=110, active_at=last)
    assert await replicas(api, namespace) == 1
    await told.say(0, 0, ahead=11, active_at=last)
    assert await replicas(api, namespace) == 0

    async def at_rest() -> Obj | None:
        await bench.settle()
        backend = await bench.backend("b")
        return backend if says(backend, "Available") == ("False", "ScaledToZero") else None

    backend = await eventually(at_rest)
    assert says(backend, "Ready") == ("True", "ScaledToZero")
    assert says(backend, "Healthy") == ("Unknown", "ScaledToZero")
    assert says(backend, "Stalled") == ("False", "NotStalled")
    assert condition(backend, "Ready")["message"] == "models are pulled; the next request starts a pod"
    assert backend["status"]["autoscaling"]["message"] == "1 → 0: no request for 2m"
    shown = backend["status"]["autoscaling"]["lastActivityTime"]
    assert shown == time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(last))

    await told.say(0, 0, ahead=3600)
    assert await replicas(api, namespace) == 0
    await told.say(0, 0, active_at=bench.now())
    assert await replicas(api, namespace) == 1
    backend = await bench.backend("b")
    assert says(backend, "Ready") == ("False", "Starting")
    assert backend["status"]["autoscaling"]["message"] == "0 → 1: a request wants it"


async def test_a_new_operator_remembers_when_there_last_was_a_request(
    api: Connection, bench: Bench, namespace: str
) -> None:
    await Client(api).create(ollama("b", namespace, autoscaling=TO_NONE))
    await make_ready(api, bench)
    pods = await gateways(api, namespace)
    told = Told(bench, pods)
    await told.say(1, 0, ahead=500)
    await told.say(0, 0, ahead=15, active_at=bench.now())
    successor = Bench(bench.connection, namespace)
    successor.ahead = bench.ahead + 30
    # The gateways are new too, and know of no request.
    told = Told(successor, pods)
    await told.say(0, 0)
    assert await replicas(api, namespace) == 1, "75 s are left"
    await told.say(0, 0, ahead=95)
    assert await replicas(api, namespace) == 0
    await successor.close()


async def test_a_backend_that_starts_with_none_pulls_its_models_where_its_server_can_run(
    api: Connection, bench: Bench, namespace: str
) -> None:
    spec = {"replicas": 0, "autoscaling": TO_NONE, "nodeSelector": {"kubernetes.io/os": "linux"}, "gpu": {"count": 1}}
    await Client(api).create(ollama("b", namespace, **spec))
    await bench.settle()
    assert await replicas(api, namespace) == 0
    (job,), _ = await Client(api).list(JOBS, namespace)
    pod = job["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"kubernetes.io/os": "linux"}
    assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in pod["tolerations"]


async def test_a_pod_that_still_pulls_its_model_is_not_idle(api: Connection, bench: Bench, namespace: str) -> None:
    await Client(api).create(ollama("b", namespace, autoscaling=TO_NONE))
    await bench.settle()
    for pod in await server_pods(api, namespace, "b"):
        await paper.run(api, pod)
    await bench.settle()
    await pull_pod(api, namespace)
    told = Told(bench, await gateways(api, namespace))
    for _ in range(3):
        await told.say(0, 0, ahead=600)
    assert await replicas(api, namespace) == 1


async def test_while_suspended_nothing_is_scaled(api: Connection, bench: Bench, namespace: str) -> None:
    await Client(api).create(ollama("b", namespace, autoscaling=UP_TO_FOUR))
    await make_ready(api, bench)
    told = Told(bench, await gateways(api, namespace))
    await change(api, BACKENDS, namespace, "b", {"spec": {"suspend": True}})
    await told.say(20, 20, ahead=20)
    await told.say(20, 20, ahead=20)
    assert await replicas(api, namespace) == 1
    assert (await bench.backend("b"))["status"]["autoscaling"]["replicas"] == 1
    await change(api, BACKENDS, namespace, "b", {"spec": {"suspend": False}})
    await told.say(20, 20, ahead=1)
    assert await replicas(api, namespace) == 4


async def test_the_operator_starts_a_pod_within_two_seconds_of_the_first_request(
    api: Connection, operator_kubeconfig: Path, namespace: str, tmp_path: Path
) -> None:
    await Client(api).create(ollama("b", namespace, replicas=0, autoscaling=TO_NONE))
    async with OperatorProcess(operator_kubeconfig, tmp_path, namespace) as operator:
        await eventually(operator.leads, 90)
        token = await eventually(lambda: token_of(api, namespace))
        pods = await gateways(api, namespace)
        first, second = address(), address()
        async with Worker(first, 9090, token) as a, Worker(second, 9090, token) as b:
            await a.say(report())
            await b.say(report())
            for pod, at in zip(pods, (first, second), strict=True):
                await paper.run(api, pod, at)
            await eventually(lambda: _asleep(api, namespace))
            began = time.monotonic()
            await a.say(report(active_at=time.time()))
            await eventually(lambda: _number(api, namespace, 1), seconds=60)
            took = time.monotonic() - began
            print(f"a pod was asked for after {took:.2f} s")
            assert took < 2 * SLACK
        # Whoever leads next finds the number.
    async with OperatorProcess(operator_kubeconfig, tmp_path, namespace) as operator:
        await eventually(operator.leads, 90)
        await server_pods(api, namespace, "b", 1)
        assert await replicas(api, namespace) == 1


async def _number(api: Connection, namespace: str, number: int) -> bool:
    return await replicas(api, namespace) == number


async def _asleep(api: Connection, namespace: str) -> bool:
    body = await Client(api).get(BACKENDS, namespace, "b")
    return bool(body and (body.get("status") or {}).get("autoscaling", {}).get("replicas") == 0)
