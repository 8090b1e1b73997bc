"""What is generated is committed and fresh. (The plain manifests need helm: `tests/operator/test_chart.py`.)"""

from __future__ import annotations

import pytest
from tests import generate

RENDERED = generate.render()


@pytest.mark.parametrize("name", RENDERED)
def test_what_is_generated_is_fresh(name: str) -> None:
    assert (generate.ROOT / name).read_text() == RENDERED[name], "stale: run `make generate`"
