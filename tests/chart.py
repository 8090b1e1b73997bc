"""The chart rendered: as the plain manifests of `charts/plain`, and for tests with any values.

Not here: when it is written (`tests/generate.py`).
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from tests.cluster import programs

ROOT = Path(__file__).parents[1]
CHART = ROOT / "charts" / "pointsman"
PLAIN = ROOT / "charts" / "plain" / "pointsman.yaml"
NAMESPACE = "pointsman-system"
HEAD = "# Rendered from charts/pointsman by `make generate`. Do not edit.\n"


def template(values: Mapping[str, Any] | None = None) -> str:
    """`helm template` with these values. Raises RuntimeError with helm's words when they are refused."""
    helm = programs.ensure(["helm"])["helm"]
    done = subprocess.run(
        [helm, "template", "pointsman", str(CHART), "--namespace", NAMESPACE, "--values", "-"],
        input=yaml.safe_dump(dict(values or {})),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    return done.stdout


def plain() -> str:
    """The manifests for `kubectl apply -k charts/plain`: default values, without Helm's own marks."""
    documents = [d for d in yaml.safe_load_all(template()) if d]
    for document in documents:
        labels = document["metadata"].get("labels") or {}
        labels.pop("helm.sh/chart", None)
        if labels.get("app.kubernetes.io/managed-by") == "Helm":
            labels["app.kubernetes.io/managed-by"] = "kustomize"
        template_labels = document.get("spec", {}).get("template", {}).get("metadata", {}).get("labels") or {}
        template_labels.pop("helm.sh/chart", None)
        template_labels.pop("app.kubernetes.io/managed-by", None)
        (document["metadata"].get("annotations") or {}).pop("helm.sh/resource-policy", None)
        if document["metadata"].get("annotations") == {}:
            del document["metadata"]["annotations"]
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    return HEAD + yaml.safe_dump_all([namespace, *documents], sort_keys=False, width=120, allow_unicode=True)
