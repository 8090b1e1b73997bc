"""The cluster of the e2e tier, for a real vLLM: its image is large and its start slow, so it has a tier of its own."""

from __future__ import annotations

import pytest
from tests.e2e.conftest import full_cluster, here, registry

__all__ = ["full_cluster", "here", "registry"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The image is built and loaded before the first test, and a vLLM takes a minute or two to start."""
    for item in items:
        item.add_marker(pytest.mark.timeout(1500))
