"""Which bytes are there: the set of ranges against a plain set of numbers."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.models.coverage import Coverage, parts

_ranges = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 60)).map(lambda pair: (min(pair), max(pair))), max_size=12
)


def _numbers(ranges: object) -> set[int]:
    return {n for start, end in ranges for n in range(start, end)}  # type: ignore[attr-defined]


@given(_ranges, st.integers(0, 70))
def test_it_is_a_set_of_bytes(ranges: list[tuple[int, int]], size: int) -> None:
    coverage, expected = Coverage(ranges), _numbers(ranges)
    assert _numbers(coverage) == expected
    assert coverage.total == len(expected)
    assert _numbers(coverage.gaps(size)) == set(range(size)) - expected
    assert _numbers(coverage.clipped(size)) == {n for n in expected if n < size}
    assert coverage.prefix == next(n for n in range(100) if n not in expected)


@given(_ranges)
def test_its_ranges_are_sorted_and_apart(ranges: list[tuple[int, int]]) -> None:
    held = list(Coverage(ranges))
    assert all(start < end for start, end in held)
    assert all(before[1] < after[0] for before, after in pairwise(held))


@given(_ranges, st.integers(1, 70), st.integers(1, 20))
def test_parts_are_the_gaps_cut_small(ranges: list[tuple[int, int]], size: int, part_size: int) -> None:
    gaps = list(Coverage(ranges).gaps(size))
    cut = list(parts(gaps, part_size))
    assert _numbers(cut) == _numbers(gaps)
    assert all(0 < end - start <= part_size for start, end in cut)
    assert cut == sorted(cut)


@pytest.mark.parametrize(("start", "end"), [(-1, 2), (5, 4)])
def test_no_impossible_range(start: int, end: int) -> None:
    with pytest.raises(ValueError, match="no range"):
        Coverage().add(start, end)
