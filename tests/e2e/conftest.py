"""The tier's cluster: the demo's stage, with real pods and a real engine, brought up once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.cluster.cluster import Cluster
from tests.cluster.fixtures import full_cluster
from tests.demo import stage
from tests.demo.stage import Stage

__all__ = ["full_cluster"]

PORT = 5051
RATE = 30_000_000
"""Bytes a second for each connection: slow enough to be seen half-way."""


@pytest.fixture(scope="session")
def here(full_cluster: Cluster) -> Iterator[Stage]:
    """The chart is installed, a registry serves the tiny models, nothing is applied yet."""
    stage.load_images(full_cluster)
    stage.publish_models(stage.folder())
    pid = stage.start_registry(stage.folder(), PORT, RATE)
    try:
        stage.install(full_cluster)
        yield Stage(full_cluster, stage.registry_host(full_cluster, PORT))
    finally:
        stage.stop_registry(pid)
