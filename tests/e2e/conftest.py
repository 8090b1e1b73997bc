"""The tier's cluster: the demo's stage, with real pods and a real engine, brought up once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.cluster.cluster import Cluster
from tests.cluster.fixtures import full_cluster
from tests.demo import stage
from tests.demo.stage import Stage
from tests.support.registry import TinyRegistry

__all__ = ["full_cluster"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first test waits for images and cluster, and a namespace takes its time to go: 10 min instead of 2."""
    for item in items:
        item.add_marker(pytest.mark.timeout(600))


RATE = 20_000_000
"""Bytes a second: slow enough for a pull to be seen and killed half-way."""


@pytest.fixture(scope="session")
def registry() -> Iterator[TinyRegistry]:
    """Serves the two tiny models to the cluster's pods."""
    root = stage.folder()
    stage.publish_models(root)
    with TinyRegistry(root / "tree", bind="0.0.0.0", rate=RATE) as serving:
        yield serving


@pytest.fixture(scope="session")
def here(full_cluster: Cluster, registry: TinyRegistry) -> Stage:
    """The chart is installed; nothing is applied yet."""
    stage.load_images(full_cluster)
    stage.install(full_cluster)
    return Stage(full_cluster, stage.registry_host(full_cluster, registry.port))
