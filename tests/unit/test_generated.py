"""What is generated is committed and fresh: CRDs in both places, and what else code writes for people."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from pointsman.api import crd

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("folder", ["crds", "charts/pointsman/files/crds"])
def test_crds_are_fresh(folder: str) -> None:
    committed = {p.name: p.read_text() for p in (ROOT / folder).glob("*.yaml")}
    assert committed == crd.render(), "stale: run `make crds`"


def test_reference_pages_are_fresh() -> None:
    rendered = runpy.run_path(str(ROOT / "docs" / "generate.py"))["render"]()
    stale = [name for name, text in rendered.items() if (ROOT / "docs" / name).read_text() != text]
    assert not stale, f"stale: {stale}; run `make docs`"
