"""Everything in the repository that code writes, in one place: `python -m tests.generate` (`make generate`)."""

from __future__ import annotations

import runpy
from pathlib import Path

import yaml
from tests import chart
from tests.conform import coverage

from pointsman.api import crd
from pointsman.kube import rbac

ROOT = Path(__file__).parents[1]
HEAD = "# Generated from operator/pointsman/kube/rbac.py by `make generate`. Do not edit.\n"


def render() -> dict[str, str]:
    """Path below the repository's root → text."""
    out = {}
    for name, text in crd.render().items():
        out[f"crds/{name}"] = out[f"charts/pointsman/files/crds/{name}"] = text
    rules = {"operator": rbac.rules(), "cluster": rbac.cluster_rules(), "lease": rbac.lease_rules()}
    out["charts/pointsman/files/rbac.yaml"] = HEAD + yaml.safe_dump(rules, sort_keys=False, width=120)
    pages = runpy.run_path(str(ROOT / "docs" / "generate.py"))["render"]()
    out["docs/fault-coverage.md"] = coverage.page()
    return out | {f"docs/{name}": text for name, text in pages.items()}


def main() -> None:
    for name, text in render().items():
        path = ROOT / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    chart.PLAIN.write_text(chart.plain())  # after the chart's own files


if __name__ == "__main__":
    main()
