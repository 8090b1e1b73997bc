"""Fixtures for tests that need a cluster; a conftest imports those it wants.

A cluster that is up already under its usual name is used and left; one that the session began is ended by it, unless
``POINTSMAN_KEEP_CLUSTER=1``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from tests.cluster import providers
from tests.cluster.cluster import Cluster
from tests.cluster.plan import Profile


@pytest.fixture(scope="session")
def control_plane() -> Iterator[Cluster]:
    """A real API server with its controllers and no node: objects are real, pods never run."""
    yield from _cluster("control-plane")


@pytest.fixture(scope="session")
def full_cluster() -> Iterator[Cluster]:
    """A cluster with a node: pods run, Services and DNS work, volumes bind."""
    yield from _cluster("full")


def _cluster(profile: Profile) -> Iterator[Cluster]:
    name = os.environ.get("POINTSMAN_CLUSTER_NAME") or providers.DEFAULT_NAMES[profile]
    if worker := os.environ.get("PYTEST_XDIST_WORKER"):  # each process of a parallel run has a cluster of its own
        name = f"{name}-{worker}"
    was_up = providers.find(name, profile) is not None
    cluster = providers.up(name, profile)
    yield cluster
    if not was_up and os.environ.get("POINTSMAN_KEEP_CLUSTER") != "1":
        providers.down(name)
