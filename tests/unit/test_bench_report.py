"""The page of figures: every part has a place, what could not be measured says why, a goal that is missed says so."""

from __future__ import annotations

import pytest
from tests.bench.cost import DIRECT, Comparison, Figures
from tests.bench.idle import Compared, Idle, at_most
from tests.bench.load import Seen, body
from tests.bench.peers import OURS
from tests.bench.report import Run, page
from tests.bench.soak import BLOCKS, WARM_SECONDS, Slope, Soak, by_minute, looked_at, slope_of


def comparison(ours: float) -> Comparison:
    names = {DIRECT: 1.0, "bare relay": 15.0, OURS: ours, "envoy 1.40.0": 40.0, "vllm-router 0.1.17": 60.0}
    found = {}
    for name, cpu in names.items():
        latency = {c: [Seen(10, 1000.0, cpu * 10, cpu * 20)] for c in (1, 32)}
        found[name] = Figures([cpu * 2, cpu], [10_000 / cpu, 12_000 / cpu], 50.0, latency)
    return Comparison(found, {"litellm 1.105.0": "ended with 1: no | way"})


def run(ours: float) -> Run:
    idle = Compared(9_900, {OURS: Idle(9_900, 3.0, 8.6, 0.5, 0.7, 8.5, 0)}, {})
    soak = Soak(60, 1000, 100, 10, (70.0, 70.1), Slope(0.1, 0.2, 0.6), (69.0, 70.1), 0, 0)
    return Run(3, 3.0, comparison(ours), comparison(ours), comparison(ours), idle, soak, {"500": (0.5, 1.0)})


def test_goals_that_are_met_and_missed() -> None:
    good, bad = page(run(28.0)), page(run(200.0))
    assert "| CPU per request, of Envoy's (goal) | ≤ 0.75 | 0.70 | met |" in good
    assert "| CPU per request, of vllm-router's (goal) | ≤ 0.50 | 0.47 | met |" in good
    assert "| CPU per request, of the bare relay's (goal) | ≤ 2.00 | 1.87 | met |" in good
    assert "| CPU per request, of Envoy's (must be below) | ≤ 1.00 | 5.00 | **missed** |" in bad


def test_what_could_not_be_measured_says_why() -> None:
    assert "| litellm 1.105.0 | not measured: ended with 1: no / way |" in page(run(28.0))


def test_fewer_streams_than_wanted_are_told() -> None:
    assert at_most(10_000, 20_000) == 9_900
    assert at_most(10_000, 1_048_576) == 10_000
    assert "does not allow 10,000" in page(run(28.0))


def test_a_page_needs_every_part() -> None:
    with pytest.raises(ValueError, match="every part"):
        page(Run(1, 1.0))


def test_slope() -> None:
    steady = slope_of([(n * 30.0, 10.0 + n) for n in range(10 * BLOCKS)])
    assert steady.mb_minute == pytest.approx(2.0)
    assert steady.error_mb_minute == pytest.approx(0.0, abs=1e-9)
    assert steady.least_grown_mb == pytest.approx(10 * BLOCKS - 1)


def test_what_a_soak_looks_at() -> None:
    course = [(float(second), second // 60 + 70.0) for second in range(600)]
    assert looked_at(course, 600)[0] == (WARM_SECONDS + 1, 74.0)
    assert looked_at(course[:60], 60)[0] == (31.0, 70.0)
    assert by_minute(course) == tuple(70.0 + n for n in range(10))
    assert "Minute by minute, in MB: 69.0, 70.1." in page(run(28.0))


def test_memory_that_moves_up_and_down_does_not_grow() -> None:
    noisy = slope_of([(float(n), 70.0 + (n // 15) % 2) for n in range(15 * BLOCKS)])
    assert noisy.least_grown_mb < 0 < noisy.error_mb_minute


@pytest.mark.parametrize("size", [982, 1_000_000])
def test_a_prompt_has_the_bytes_it_says(size: int) -> None:
    assert len(body(True, size)) == size
