"""Writes the safetensors format: the length of the header, the header, the tensors; bfloat16 only."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterable
from pathlib import Path

Tensor = tuple[str, tuple[int, ...], bytes | None]
"""Name, shape and bytes; None: zeros, written as a hole."""


def write(path: Path, content: Iterable[Tensor]) -> None:
    tensors = list(content)
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape, _ in tensors:
        begin, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for _, shape, data in tensors:
            if data is None:
                out.seek(2 * math.prod(shape), 1)
            else:
                out.write(data)
        out.truncate(8 + len(text) + end)
