"""A real API server accepts and refuses what the table says, with its sentence, at apply."""

from __future__ import annotations

import json

import pytest
import yaml
from tests.cluster.cluster import Cluster
from tests.support.admission import CASES, CHANGES, Case

from pointsman.api import crd

NAMESPACE = "admission"


@pytest.fixture(scope="module")
def cluster(control_plane: Cluster) -> Cluster:
    control_plane.kubectl("apply", "--server-side", "-f", "-", stdin="\n---\n".join(crd.render().values()))
    for plural in ("llmbackends", "modelroutes"):
        control_plane.kubectl("wait", "--for=condition=Established", f"crd/{plural}.pointsman.dev")
    control_plane.kubectl(
        "apply", "-f", "-", stdin=f"{{apiVersion: v1, kind: Namespace, metadata: {{name: {NAMESPACE}}}}}"
    )
    return control_plane


def apply(cluster: Cluster, body: object) -> str:
    """The error text of a dry-run apply; empty when it was accepted."""
    try:
        cluster.kubectl("-n", NAMESPACE, "apply", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump(body))
    except RuntimeError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_the_api_server_says_it_at_apply(cluster: Cluster, case: Case) -> None:
    error = apply(cluster, case.body)
    expected = case.from_api or case.refused
    assert (expected in error) if expected else (error == "")


@pytest.mark.parametrize(("name", "old", "new", "refused"), CHANGES, ids=[c[0] for c in CHANGES])
def test_what_cannot_change_is_refused(
    cluster: Cluster, name: str, old: dict[str, object], new: dict[str, object], refused: str
) -> None:
    object_name = f"change-{name.replace(' ', '-')}"
    for body in (old, new):
        body["metadata"] = {"name": object_name}
    cluster.kubectl("-n", NAMESPACE, "apply", "-f", "-", stdin=json.dumps(old))
    assert apply(cluster, old) == ""
    assert refused in apply(cluster, new)


def test_the_scale_subresource_works(cluster: Cluster) -> None:
    body = next(c.body for c in CASES if c.name == "ollama")
    cluster.kubectl("-n", NAMESPACE, "apply", "-f", "-", stdin=json.dumps(body))
    cluster.kubectl("-n", NAMESPACE, "scale", "pmb/local", "--replicas=3")
    assert cluster.kubectl("-n", NAMESPACE, "get", "pmb", "local", "-o", "jsonpath={.spec.replicas}") == "3"
