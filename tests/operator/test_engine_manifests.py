"""A real API server takes every manifest of every engine and option, and its pods under the restricted standard."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.cluster.cluster import Cluster
from tests.support import leader_worker_sets

GOLDEN = sorted((Path(__file__).resolve().parents[1] / "unit" / "engines" / "golden").glob("*.yaml"))
NAMESPACE = "engine-manifests"


@pytest.fixture(scope="module")
def server(control_plane: Cluster) -> Iterator[Cluster]:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}
    control_plane.kubectl("apply", "-f", "-", stdin=json.dumps(body))
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "pointsman-gateway"}}
    control_plane.kubectl("-n", NAMESPACE, "apply", "-f", "-", stdin=json.dumps(account))
    leader_worker_sets.install(control_plane)
    yield control_plane
    leader_worker_sets.remove(control_plane)


@pytest.mark.parametrize("file", GOLDEN, ids=lambda f: f.stem)
def test_what_a_backend_becomes_is_accepted(server: Cluster, file: Path) -> None:
    objects = list(yaml.safe_load_all(file.read_text()))
    assert objects
    pods = [pod for o in objects if (pod := pod_of(o)) is not None]
    for body in [*objects, *pods]:
        body["metadata"]["namespace"] = NAMESPACE
        for owner in body["metadata"].get("ownerReferences", ()):
            owner.setdefault("uid", "00000000-0000-0000-0000-000000000000")
    whole = json.dumps({"apiVersion": "v1", "kind": "List", "items": [*objects, *pods]})
    apply = ["apply", "--server-side", "--force-conflicts", "--dry-run=server", "-o", "name", "-f", "-"]
    said = server.kubectl("-n", NAMESPACE, *apply, stdin=whole)
    assert len(said.split()) == len(objects) + len(pods), said


def pod_of(workload: dict[str, Any]) -> dict[str, Any] | None:
    """The pod of a workload, as its controller would create it; the runtime class need not exist here."""
    template = workload.get("spec", {}).get("template")
    if template is None:
        return None
    spec = {key: value for key, value in template["spec"].items() if key != "runtimeClassName"}
    name = f"{workload['kind'].lower()}-{workload['metadata']['name']}"
    metadata = {**template["metadata"], "name": name}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
