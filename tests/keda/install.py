"""KEDA as its own manifests have it, with programs that were built here: operator and metrics server, no webhooks."""

from __future__ import annotations

import json
from typing import Any

import yaml
from tests.cluster import images, programs
from tests.cluster.cluster import Cluster
from tests.cluster.programs.build import source
from tests.cluster.programs.recipes import GoRecipe

IMAGES = {"keda-operator": images.KEDA, "keda-metrics-apiserver": images.KEDA_ADAPTER}
"""By the Deployment's name."""
START_SECONDS = 240
"""The operator makes its certificates first, and is checked after 20 s at the earliest; machines are noisy."""


def install(cluster: Cluster) -> None:
    """Installs it, and waits until the API server asks it for metrics."""
    for tag in IMAGES.values():
        cluster.load_image(tag)
    recipe = programs.recipes()["keda"]
    assert isinstance(recipe, GoRecipe)
    manifests = cluster.kubectl("kustomize", str(source(recipe) / "config" / "minimal"))
    items = [_ours(item) for item in yaml.safe_load_all(manifests)]
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    # One of its kinds is too large for the annotation of a client-side apply.
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=text, timeout=120)
    for name in IMAGES:
        done = ("rollout", "status", f"deployment/{name}", f"--timeout={START_SECONDS}s")
        cluster.kubectl("-n", "keda", *done, timeout=START_SECONDS + 10)
    api = ("--for=condition=Available", "apiservice/v1beta1.external.metrics.k8s.io", f"--timeout={START_SECONDS}s")
    cluster.kubectl("wait", *api, timeout=START_SECONDS + 10)


def _ours(item: dict[str, Any]) -> dict[str, Any]:
    """Its images are the ones that the cluster has."""
    if item["kind"] == "Deployment":
        (container,) = item["spec"]["template"]["spec"]["containers"]
        container["image"] = IMAGES[item["metadata"]["name"]]
        container["imagePullPolicy"] = "IfNotPresent"
    return item
