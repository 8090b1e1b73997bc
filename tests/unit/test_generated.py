"""What is generated is committed and fresh: CRDs in both places, and what else code writes for people."""

from __future__ import annotations

from pathlib import Path

import pytest

from pointsman.api import crd

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("folder", ["crds", "charts/pointsman/files/crds"])
def test_crds_are_fresh(folder: str) -> None:
    committed = {p.name: p.read_text() for p in (ROOT / folder).glob("*.yaml")}
    assert committed == crd.render(), "stale: run `make crds`"
