"""Which bytes of a file are there: a set of half-open ranges. Pure.

Invariant: the ranges are sorted, not empty, and neither overlap nor touch.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator

Range = tuple[int, int]
"""First byte, and the byte after the last."""


class Coverage:
    """A mutable set of bytes, kept as ranges."""

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        self._ranges: list[Range] = []
        for start, end in ranges:
            self.add(start, end)

    def add(self, start: int, end: int) -> None:
        """An empty range changes nothing. Raises `ValueError` for a negative or reversed one."""
        if start < 0 or end < start:
            raise ValueError(f"no range: {start}..{end}")
        if start == end:
            return
        left = bisect_left(self._ranges, start, key=lambda r: r[1])
        right = left
        while right < len(self._ranges) and self._ranges[right][0] <= end:
            start = min(start, self._ranges[right][0])
            end = max(end, self._ranges[right][1])
            right += 1
        self._ranges[left:right] = [(start, end)]

    @property
    def total(self) -> int:
        """How many bytes are there."""
        return sum(end - start for start, end in self._ranges)

    @property
    def prefix(self) -> int:
        """How many bytes are there without a gap from the first on."""
        return self._ranges[0][1] if self._ranges and self._ranges[0][0] == 0 else 0

    def gaps(self, size: int) -> Iterator[Range]:
        """What is missing of the first `size` bytes, in order."""
        at = 0
        for start, end in self._ranges:
            if start >= size:
                break
            if at < start:
                yield (at, start)
            at = end
        if at < size:
            yield (at, size)

    def clipped(self, size: int) -> Coverage:
        """What is there of the first `size` bytes."""
        return Coverage((start, min(end, size)) for start, end in self._ranges if start < size)

    def __iter__(self) -> Iterator[Range]:
        return iter(tuple(self._ranges))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Coverage) and self._ranges == other._ranges

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Coverage({self._ranges})"


def parts(gaps: Iterable[Range], part_size: int) -> Iterator[Range]:
    """The gaps cut into requests of at most `part_size` bytes. A cut falls on a multiple of `part_size`."""
    for start, end in gaps:
        at = start
        while at < end:
            stop = min(end, (at // part_size + 1) * part_size)
            yield (at, stop)
            at = stop
