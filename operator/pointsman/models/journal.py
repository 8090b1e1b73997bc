"""What is written down about a blob that is half there: the journal's text. Pure.

A line says that a range of bytes is in the partial file *and* on the disk; it is written only after the data were
synced. A crash may leave the last line torn, or filled with zeros: reading stops at the first line that is not whole
(each carries its own checksum), which can only forget bytes, never invent them. The header binds the journal to one
blob. Ranges, not part numbers: a later run may use another part size.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable

from pointsman.models.coverage import Coverage, Range

_VERSION = "pointsman-partial-1"


def _line(body: str) -> bytes:
    return f"{body} {zlib.crc32(body.encode()):08x}\n".encode()


def header(digest: str, size: int) -> bytes:
    """The first line."""
    return _line(f"{_VERSION} {digest} {size}")


def entries(ranges: Iterable[Range]) -> bytes:
    """One line for each range."""
    return b"".join(_line(f"{start} {end}") for start, end in ranges)


def whole(digest: str, size: int, coverage: Coverage) -> bytes:
    """A fresh journal that says the same in the fewest lines."""
    return header(digest, size) + entries(coverage)


def replay(text: bytes, digest: str, size: int) -> Coverage:
    """The bytes that are surely there; none when the journal is of another blob."""
    coverage = Coverage()
    lines = text.split(b"\n")[:-1]  # what follows the last newline is torn
    if not lines or lines[0] + b"\n" != header(digest, size):
        return coverage
    for line in lines[1:]:
        try:
            start, end, checksum = line.decode("ascii").split(" ")
            if int(checksum, 16) != zlib.crc32(f"{start} {end}".encode()):
                break
            low, high = int(start), int(end)
        except (ValueError, UnicodeDecodeError):
            break
        if not 0 <= low < high <= size:
            break
        coverage.add(low, high)
    return coverage
