"""A real API server with the CRDs, a namespace for each test, and the operator under the rights that it ships with."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
import yaml
from tests.cluster.cluster import Cluster
from tests.cluster.fixtures import control_plane  # noqa: F401
from tests.operator.bench import Bench
from tests.operator.paper import PaperNode

from pointsman.kube.connect import Connection, connect
from pointsman.kube.rbac import cluster_rules, lease_rules, rules

CRDS = Path(__file__).resolve().parents[2] / "crds"
SYSTEM = "pointsman-system"
T = TypeVar("T")
_numbers = itertools.count()


@pytest.fixture(scope="session")
def cluster(control_plane: Cluster) -> Iterator[Cluster]:  # noqa: F811
    """The API server with our CRDs, a node on paper and the operator's service account."""
    control_plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRDS))
    for crd in ("llmbackends", "modelroutes"):
        control_plane.kubectl("wait", "--for=condition=Established", f"crd/{crd}.pointsman.dev", "--timeout=30s")
    rbac = "rbac.authorization.k8s.io"
    subject = [{"kind": "ServiceAccount", "name": "operator", "namespace": SYSTEM}]
    objects = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "operator", "namespace": SYSTEM}},
        {"apiVersion": f"{rbac}/v1", "kind": "ClusterRole", "metadata": {"name": "pointsman-operator"},
         "rules": [*rules(), *cluster_rules()]},
        {"apiVersion": f"{rbac}/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "pointsman-operator"},
         "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "pointsman-operator"}, "subjects": subject},
        {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": {"name": "operator", "namespace": SYSTEM},
         "rules": lease_rules()},
        {"apiVersion": f"{rbac}/v1", "kind": "RoleBinding", "metadata": {"name": "operator", "namespace": SYSTEM},
         "roleRef": {"apiGroup": rbac, "kind": "Role", "name": "operator"}, "subjects": subject},
    ]  # fmt: skip
    control_plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=yaml.safe_dump_all(objects))
    with PaperNode(str(control_plane.kubeconfig)):
        yield control_plane


@pytest.fixture(scope="session")
def operator_kubeconfig(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kubeconfig with the operator's own rights, and no others."""
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    token = cluster.kubectl("create", "token", "operator", "-n", SYSTEM, "--duration=2h").strip()
    config["users"] = [{"name": "operator", "user": {"token": token}}]
    context = {"cluster": config["clusters"][0]["name"], "user": "operator", "namespace": SYSTEM}
    config["contexts"] = [{"name": "operator", "context": context}]
    config["current-context"] = "operator"
    path = tmp_path_factory.mktemp("kube") / "operator.kubeconfig"
    path.write_text(yaml.safe_dump(config))
    path.chmod(0o600)
    return path


@pytest.fixture
async def api(cluster: Cluster) -> AsyncIterator[Connection]:
    """The API server as its administrator."""
    async with await connect(str(cluster.kubeconfig)) as connection:
        yield connection


@pytest.fixture
async def operator_api(operator_kubeconfig: Path) -> AsyncIterator[Connection]:
    """The API server as the operator."""
    async with await connect(str(operator_kubeconfig)) as connection:
        yield connection


@pytest.fixture
async def namespace(api: Connection) -> AsyncIterator[str]:
    """A namespace of the test's own."""
    name = f"t{os.getpid()}-{next(_numbers)}"
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {
        "pod-security.kubernetes.io/enforce": "restricted"}}}  # fmt: skip
    await api.request("POST", "/api/v1/namespaces", body=body)
    yield name
    await api.request("DELETE", f"/api/v1/namespaces/{name}")


@pytest.fixture
async def bench(operator_api: Connection, namespace: str) -> AsyncIterator[Bench]:
    """Reconcilers with the operator's own rights."""
    bench = Bench(operator_api, namespace)
    yield bench
    await bench.close()


async def eventually(check: Callable[[], Awaitable[T | None]], seconds: float = 60.0, what: str = "") -> T:
    """The first answer of `check` that is neither None nor False. Fails after `seconds`."""
    until = time.monotonic() + seconds
    while True:
        found = await check()
        if found is not None and found is not False:
            return found
        assert time.monotonic() < until, f"not within {seconds} s: {what or check}"
        await asyncio.sleep(0.05)
