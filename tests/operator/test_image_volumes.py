"""Models that are images, on a real API server: one that takes image volumes, and one that leaves them out."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.cluster import processes
from tests.cluster.cluster import Cluster
from tests.cluster.providers import DEFAULT_NAMES
from tests.operator.bench import Bench, condition, ollama
from tests.operator.installed import CRDS

from pointsman.kube.client import Client
from pointsman.kube.connect import Connection, connect
from pointsman.kube.resources import CLAIMS, DEPLOYMENTS, JOBS, Obj

SPEC = {
    "engine": "LlamaCpp",
    "image": "example.test/llama:1",
    "models": [{"name": "m", "source": "oci://registry.test/team/m:1"}],
    "storage": {"mode": "Image"},
}


@pytest.fixture(scope="module")
def gate_off() -> Iterator[Path]:
    """The kubeconfig of an API server whose feature gate ImageVolume is off, as it is by default before 1.35."""
    name = os.environ.get("POINTSMAN_CLUSTER_NAME") or DEFAULT_NAMES["control-plane"]
    name = "-".join(filter(None, (name, os.environ.get("PYTEST_XDIST_WORKER"), "gate")))
    running = processes.up(name, "control-plane", ("--feature-gates=ImageVolume=false",))
    try:
        cluster = Cluster(name, "processes", running.profile, running.kubeconfig, running.host_ip)
        cluster.kubectl("apply", "--server-side", "-f", str(CRDS))
        cluster.kubectl("wait", "--for=condition=Established", "crd/llmbackends.pointsman.dev", "--timeout=30s")
        yield cluster.kubeconfig
    finally:
        processes.down(name)


@pytest.fixture
async def old(gate_off: Path) -> AsyncIterator[Connection]:
    async with await connect(str(gate_off)) as connection:
        yield connection


def backend(namespace: str) -> Obj:
    return ollama("b", namespace, **SPEC)


async def test_each_image_is_a_volume_and_nothing_is_left_to_do(api: Connection, bench: Bench, namespace: str) -> None:
    await Client(api).create(backend(namespace))
    await bench.settle()
    deployment = await Client(api).get(DEPLOYMENTS, namespace, "pmb-b")
    assert deployment is not None
    volumes = deployment["spec"]["template"]["spec"]["volumes"]
    assert [v["image"]["reference"] for v in volumes if "image" in v] == ["registry.test/team/m:1"]
    for kind in (CLAIMS, JOBS):
        assert not (await Client(api).list(kind, namespace))[0]


async def test_an_api_server_that_leaves_them_out_gets_no_pods_without_their_models(old: Connection) -> None:
    bench = Bench(old, "default")
    await Client(old).create(backend("default"))
    await bench.settle()
    said = condition(await bench.backend("b"), "Ready")
    assert (said["status"], said["reason"]) == ("False", "NoImageVolumes")
    assert said["message"].startswith("the API server takes no image volumes: ")
    assert await Client(old).get(DEPLOYMENTS, "default", "pmb-b") is None
    await bench.close()
