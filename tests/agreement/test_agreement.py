"""What `explain` says is what happens."""

from __future__ import annotations

from pathlib import Path

from tests.agreement.__main__ import text
from tests.agreement.run import run
from tests.support import draws


async def test_explain_agrees_with_what_happens(tmp_path: Path) -> None:
    seed = draws.seed(1)
    print(f"seed {seed}")
    outcome = await run(tmp_path, seed, 700)
    print(text(outcome))
    assert outcome.findings == []
    assert sum(outcome.judged.values()) > 600
    assert len(outcome.strategies) >= 6
    assert len(outcome.operations) == 3
    assert outcome.barred["UnknownOperation"]
    assert outcome.barred["Elsewhere"]
