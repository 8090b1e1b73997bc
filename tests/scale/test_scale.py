"""The run of `make scale` in small: what it says must be right of a few backends too."""

from __future__ import annotations

from pathlib import Path

from tests.cluster.cluster import Cluster
from tests.cluster.fixtures import control_plane  # noqa: F401
from tests.e2e.waiting import fresh
from tests.scale import report
from tests.scale.run import Lengths, run
from tests.scale.world import Size

SLACK = 5.0
"""Two busy cores."""


async def test_a_few_are_carried_out_as_promised(control_plane: Cluster, tmp_path: Path) -> None:  # noqa: F811
    outcome = await run(control_plane, Size(10, 10), Lengths(idle=5, outage=20), tmp_path, fresh("scale"))
    late = {p.text: p.found for p in report.promises(outcome) if p.found > p.limit * SLACK}
    assert not late
    assert not report.wrong(outcome)
    assert outcome.outage.restarts == 1, "it ends when it cannot renew its lease"
    assert "10 backends and 10 routes" in report.text(outcome)
