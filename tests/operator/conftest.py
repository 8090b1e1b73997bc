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
from tests.cluster.cluster import Cluster
from tests.cluster.fixtures import control_plane  # noqa: F401
from tests.operator.bench import Bench
from tests.operator.installed import install, kubeconfig_of_operator, make_namespace
from tests.operator.paper import PaperNode

from pointsman.kube.connect import Connection, connect

T = TypeVar("T")
_numbers = itertools.count()


@pytest.fixture(scope="session")
def cluster(control_plane: Cluster) -> Iterator[Cluster]:  # noqa: F811
    """The API server with our CRDs, a node on paper and the operator's service account."""
    install(control_plane)
    with PaperNode(str(control_plane.kubeconfig)):
        yield control_plane


@pytest.fixture(scope="session")
def operator_kubeconfig(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kubeconfig with the operator's own rights, and no others."""
    return kubeconfig_of_operator(cluster, tmp_path_factory.mktemp("kube"))


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
    await make_namespace(api, name)
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
