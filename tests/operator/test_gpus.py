"""Why a backend gets no GPU, in one sentence of `Ready`: words of a real scheduler, about nodes with GPUs on paper."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from tests.cluster.cluster import Cluster
from tests.cluster.plan import NODE
from tests.operator import paper
from tests.operator.bench import SETTINGS, Bench, condition
from tests.operator.conftest import eventually
from tests.operator.hands import job_ended, pull_pod
from tests.operator.paper import PaperNode

from pointsman.controllers.settings import Settings
from pointsman.kube.client import Client
from pointsman.kube.connect import MERGE_PATCH, Connection
from pointsman.kube.resources import BACKENDS, Obj

L4 = "NVIDIA-L4"
A100 = "NVIDIA-A100-SXM4-80GB"
PROFILES = {
    "a100": {
        "vendor": "NVIDIA", "product": A100, "memory": "80Gi", "nodeSelector": {"pool": "gpu"},
        "tolerations": [{"key": "dedicated", "operator": "Exists"}],
    }
}  # fmt: skip
WITH_PROFILES = Settings.model_validate({**SETTINGS.model_dump(by_alias=True), "gpuProfiles": PROFILES})


_numbers = itertools.count(1)


@pytest.fixture
def node(cluster: Cluster) -> Iterator[PaperNode]:
    """A second node, with two L4."""
    labels = {"nvidia.com/gpu.product": L4, "nvidia.com/gpu.memory": "23034"}
    with PaperNode(
        str(cluster.kubeconfig), f"gpu-{next(_numbers)}", extended={"nvidia.com/gpu": "2"}, labels=labels
    ) as node:
        yield node


@pytest.fixture
async def gpus_of_first_node(api: Connection) -> AsyncIterator[None]:
    """An L4 in the node on which volumes are made."""

    async def write(gpus: str | None, memory: str | None) -> None:
        labels = {"metadata": {"labels": {"nvidia.com/gpu.memory": memory}}}
        status = {"status": {"capacity": {"nvidia.com/gpu": gpus}, "allocatable": {"nvidia.com/gpu": gpus}}}
        for sub, body in (("", labels), ("/status", status)):
            await api.request("PATCH", f"/api/v1/nodes/{NODE}{sub}", body=body, content_type=MERGE_PATCH)

    await write("1", "23034")
    yield
    await write(None, None)


@pytest.fixture
async def gpu_bench(operator_api: Connection, namespace: str) -> AsyncIterator[Bench]:
    bench = Bench(operator_api, namespace, WITH_PROFILES)
    yield bench
    await bench.close()


def backend(name: str, namespace: str, **gpu: Any) -> Obj:
    """No models of ours: no volume that a pod could wait for."""
    spec = {"engine": "Custom", "image": "example.test/engine:1", "custom": {"port": 8000},
            "models": [{"name": "m"}], "gpu": gpu}  # fmt: skip
    meta = {"name": name, "namespace": namespace}
    return {"apiVersion": "pointsman.dev/v1alpha1", "kind": "LLMBackend", "metadata": meta, "spec": spec}


async def ready_says(bench: Bench, name: str, *words: str) -> str:
    """The message of Ready once it has all of `words`."""
    found: dict[str, Any] = {}

    async def said() -> str | None:
        nonlocal found
        bench.ahead += 60  # what was read of nodes is old
        await bench.settle()
        found = condition(await bench.backend(name), "Ready")
        return str(found["message"]) if all(w in found["message"] for w in words) else None

    try:
        return await eventually(said, what=f"{words} in Ready of {name}")
    except AssertionError as error:
        raise AssertionError(f"{error}; Ready is {found}") from None


async def placed(bench: Bench, api: Connection, name: str, node: str) -> None:
    async def there() -> bool:
        await bench.settle()
        pods = await paper.pods_of(api, bench.namespace, f"pointsman.dev/backend={name}")
        return [p["spec"].get("nodeName") for p in pods] == [node]

    try:
        await eventually(there, what=f"{name} on {node}")
    except AssertionError as error:
        raise AssertionError(f"{error}; {condition(await bench.backend(name), 'Ready')}") from None
    await bench.settle()
    found = condition(await bench.backend(name), "Ready")
    assert found["reason"] != "Unschedulable", found


async def patch(api: Connection, namespace: str, name: str, spec: dict[str, Any]) -> None:
    await api.request("PATCH", BACKENDS.path(namespace, name), body={"spec": spec}, content_type=MERGE_PATCH)


async def test_no_node_has_a_gpu(api: Connection, gpu_bench: Bench, namespace: str) -> None:
    await Client(api).create(backend("b", namespace))
    said = await ready_says(gpu_bench, "b", "no node offers nvidia.com/gpu")
    assert "device plugin" in said


async def test_a_gpu_that_appears_heals_it(cluster: Cluster, api: Connection, gpu_bench: Bench, namespace: str) -> None:
    await Client(api).create(backend("b", namespace, vendor="AMD"))
    await ready_says(gpu_bench, "b", "no node offers amd.com/gpu")
    with PaperNode(str(cluster.kubeconfig), "gpu-amd", extended={"amd.com/gpu": "1"}):
        await placed(gpu_bench, api, "b", "gpu-amd")


async def test_wrong_product(api: Connection, gpu_bench: Bench, namespace: str, node: PaperNode) -> None:
    await Client(api).create(backend("b", namespace, product="A100"))
    said = await ready_says(gpu_bench, "b", L4)
    assert said == (
        "no node with nvidia.com/gpu has nvidia.com/gpu.product=A100; there is NVIDIA-L4: set spec.gpu.product to one"
        " of these"
    )
    await patch(api, namespace, "b", {"gpu": {"product": L4}})
    await placed(gpu_bench, api, "b", node.name)


async def test_unknown_slice(api: Connection, gpu_bench: Bench, namespace: str, node: PaperNode) -> None:
    await node.change(api, extended={"nvidia.com/mig-1g.10gb": "7"})
    await Client(api).create(backend("b", namespace, resourceName="nvidia.com/mig-9g.99gb"))
    said = await ready_says(gpu_bench, "b", "no node offers nvidia.com/mig-9g.99gb")
    assert "nvidia.com/mig-1g.10gb" in said
    await patch(api, namespace, "b", {"gpu": {"resourceName": "nvidia.com/mig-1g.10gb"}})
    await placed(gpu_bench, api, "b", node.name)


async def test_more_than_any_node_has(api: Connection, gpu_bench: Bench, namespace: str, node: PaperNode) -> None:
    await Client(api).create(backend("b", namespace, count=3))
    said = await ready_says(gpu_bench, "b", "no node has 3 nvidia.com/gpu")
    assert "the largest has 2" in said
    await node.change(api, extended={"nvidia.com/gpu": "4"})
    await placed(gpu_bench, api, "b", node.name)


async def test_taint(api: Connection, gpu_bench: Bench, namespace: str, node: PaperNode) -> None:
    taint = {"key": "dedicated", "value": "research", "effect": "NoSchedule"}
    plugin = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}
    await node.change(api, taints=[plugin, taint])
    await Client(api).create(backend("b", namespace))
    said = await ready_says(gpu_bench, "b", "dedicated=research:NoSchedule")
    assert node.name in said
    assert "spec.tolerations" in said
    toleration = {"key": "dedicated", "operator": "Exists", "effect": "NoSchedule"}
    await patch(api, namespace, "b", {"tolerations": [toleration]})
    await placed(gpu_bench, api, "b", node.name)


async def test_two_backends_compete(api: Connection, gpu_bench: Bench, namespace: str, node: PaperNode) -> None:
    await Client(api).create(backend("first", namespace, count=2))
    await placed(gpu_bench, api, "first", node.name)
    await Client(api).create(backend("second", namespace))
    said = await ready_says(gpu_bench, "second", "first holds 2")
    assert said.startswith("waits for 1 nvidia.com/gpu; of 2 on the nodes, first holds 2")
    await patch(api, namespace, "first", {"replicas": 0})
    await gpu_bench.settle()
    for pod in await paper.pods_of(api, namespace, "pointsman.dev/backend=first", ending=True):
        await paper.gone(api, pod)
    await placed(gpu_bench, api, "second", node.name)


async def test_backends_of_other_namespaces_are_not_named(
    api: Connection, operator_api: Connection, gpu_bench: Bench, namespace: str, node: PaperNode
) -> None:
    other = f"{namespace}-other"
    await api.request("POST", "/api/v1/namespaces", body={"metadata": {"name": other}})
    theirs = Bench(operator_api, other)
    try:
        await Client(api).create(backend("theirs", other, count=2))
        await placed(theirs, api, "theirs", node.name)
        gpu_bench.context.cache = theirs.context.cache  # an operator has one, of all namespaces
        await Client(api).create(backend("b", namespace))
        said = await ready_says(gpu_bench, "b", "backends of other namespaces hold 2")
        assert "theirs" not in said
    finally:
        await theirs.close()
        await api.request("DELETE", f"/api/v1/namespaces/{other}")


async def test_an_unknown_profile_changes_nothing(
    api: Connection, gpu_bench: Bench, namespace: str, node: PaperNode
) -> None:
    await Client(api).create(backend("b", namespace, profile="h100"))
    said = await ready_says(gpu_bench, "b", "there is no profile h100")
    assert "a100" in said
    assert not await paper.pods_of(api, namespace, "pointsman.dev/backend=b")
    await node.change(
        api,
        labels={"nvidia.com/gpu.product": A100, "pool": "gpu"},
        taints=[{"key": "dedicated", "effect": "NoExecute"}],
    )
    await patch(api, namespace, "b", {"gpu": {"profile": "a100"}})
    await placed(gpu_bench, api, "b", node.name)


async def test_what_does_not_fit_is_said_before_an_engine_tries(
    api: Connection, gpu_bench: Bench, namespace: str, gpus_of_first_node: None
) -> None:
    """Llama 3.1 8B in 16 bits, whole context, on an L4; then half as many bits and a context that fits."""
    figures = {"weights": 16_060_522_496, "kv": 65536, "context": 131072}
    done = {"state": "Pulled", "digest": "sha256:" + "a" * 64, "total_bytes": 16_060_522_496, "figures": figures}
    models = [{"name": "m", "source": "hf://meta-llama/Llama-3.1-8B-Instruct"}]
    spec = {"engine": "VLLM", "models": models, "gpu": {"count": 1}}
    meta = {"name": "b", "namespace": namespace}
    made = {"apiVersion": "pointsman.dev/v1alpha1", "kind": "LLMBackend", "metadata": meta, "spec": spec}
    await Client(api).create(made)
    await placed(gpu_bench, api, "b", NODE)
    found = condition(await gpu_bench.backend("b"), "Fits")
    assert (found["status"], found["reason"]) == ("Unknown", "FitUnknown")
    pod = await pull_pod(api, namespace)
    await paper.end(api, pod, 0, json.dumps(done))
    await job_ended(api, namespace, pod["metadata"]["labels"]["pointsman.dev/pull"])
    await gpu_bench.settle()
    found = condition(await gpu_bench.backend("b"), "Fits")
    assert (found["status"], found["reason"]) == ("False", "TooLarge")
    assert "ask for a context of at most 35120 tokens" in found["message"]
    await patch(api, namespace, "b", {"vllm": {"maxModelLen": 16384}})
    await gpu_bench.settle()
    backend = await gpu_bench.backend("b")
    assert condition(backend, "Fits")["status"] == "True"
    assert backend["status"]["models"][0]["figures"]["weights"] == 16_060_522_496


async def test_without_the_right_to_see_nodes_the_scheduler_speaks(
    cluster: Cluster, api: Connection, operator_api: Connection, namespace: str, node: PaperNode
) -> None:
    """An install for some namespaces has no ClusterRole."""
    binding = "/apis/rbac.authorization.k8s.io/v1/clusterroles/pointsman-operator"
    role = await api.request("GET", binding)
    rules = [r for r in role["rules"] if r["resources"] != ["nodes"]]
    await api.request("PATCH", binding, body={"rules": rules}, content_type=MERGE_PATCH)
    bench = Bench(operator_api, namespace)
    try:
        await Client(api).create(backend("b", namespace, count=3))
        said = await ready_says(bench, "b", "no node has 3 nvidia.com/gpu to spare")
        assert "Insufficient nvidia.com/gpu" in said
        assert "preemption" not in said
    finally:
        await bench.close()
        await api.request("PATCH", binding, body={"rules": role["rules"]}, content_type=MERGE_PATCH)
