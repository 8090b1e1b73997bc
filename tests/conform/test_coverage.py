"""The table of faults names what exists, and every fault is injected somewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.conform.coverage import ROWS, Row, place
from tests.faults.faults import FAULTS

from pointsman.conform.catalogue import SCENARIOS

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("row", ROWS, ids=lambda r: r.fault)
def test_what_the_table_names_exists(row: Row) -> None:
    assert row.kit or row.random or row.tests
    for start in row.kit:
        assert any(s.name.startswith(start) for s in SCENARIOS), start
    assert not set(row.random) - set(FAULTS)
    for test in row.tests:
        file, name = place(test)
        assert f"def {name}(" in (ROOT / file).read_text(), test


def test_every_random_fault_and_scenario_has_its_row() -> None:
    good = {name for name, fault in FAULTS.items() if fault.verdict == "Success"}
    named = {name for row in ROWS for name in row.random}
    others = {
        "not HTTP",
        "500",
        "504",
        "408",
        "stream for JSON",
        "JSON for a stream",
        "error under 200",
        "empty answer",
    }
    assert set(FAULTS) - named - good - others == {"knows no stream_options"}
