"""The run of `python -m tests.faults`, small: no answer failed, lost, spliced or duplicated."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.faults import report
from tests.faults.run import run
from tests.support import draws


@pytest.mark.parametrize(("requests", "reload"), [(2500, False), (1500, True)], ids=["steady", "reloading"])
async def test_random_faults_are_survived_as_the_table_says(requests: int, reload: bool, tmp_path: Path) -> None:
    seed = draws.seed(requests)
    print(f"seed {seed}")
    outcome = await run(tmp_path, seed, requests, reload=reload)
    print(report.text(outcome))
    assert outcome.findings == []
    assert outcome.reloads > 0 or not reload
    met = {name for name, n in outcome.verdict.faults.items() if n}
    assert len(met) > 50, "too few of the faults were met to show anything"
