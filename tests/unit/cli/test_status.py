"""The row of a backend: pods that there are, of those that there should be."""

from __future__ import annotations

from typing import Any

import pytest

from pointsman.cli.status import _backend


@pytest.mark.parametrize(
    ("spec", "status", "pods"),
    [
        ({}, {"readyReplicas": 1}, "1/1"),
        ({"replicas": 3}, {"readyReplicas": 2}, "2/3"),
        ({"replicas": 1}, {"readyReplicas": 2, "autoscaling": {"replicas": 4}}, "2/4"),
        ({"replicas": 1}, {"autoscaling": {"replicas": 0}}, "0/0"),
        ({"engine": "External"}, {}, "-"),
    ],
)
def test_pods_of_those_that_there_should_be(spec: dict[str, Any], status: dict[str, Any], pods: str) -> None:
    whole = {"engine": "Ollama", "models": [{"name": "m"}], **spec}
    assert _backend({"metadata": {"name": "b"}, "spec": whole, "status": status}).pods == pods
