"""How long a GGUF file must be, by what its head says of its tensors: finds a file that was cut off.

Reads the head only; strings and arrays are skipped. Source: ggml's `docs/gguf.md`, and the block sizes of `ggml.c`.
"""

from __future__ import annotations

import math
import struct
from typing import Any, BinaryIO

_STRING, _ARRAY = 8, 9
_SCALARS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of a value by its type."""
_ALIGNMENT = b"general.alignment"
_MAX_TEXT = 64 << 20
_BLOCKS = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 10: (256, 84),
    11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292), 16: (256, 66), 17: (256, 74),
    18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82), 23: (256, 136), 24: (1, 1), 25: (1, 2),
    26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2), 34: (256, 54), 35: (256, 66), 39: (32, 17),
}  # fmt: skip
"""Values in a block, and its bytes, by the type of a tensor."""


def needed_bytes(file: BinaryIO) -> int:
    """The least size of the file, opened at its start. A tensor of a type that is not known here counts as one byte.

    Raises `ValueError` when it is no GGUF file that is known, or ends within its head.
    """
    magic, version, tensors, values = _read(file, "<4sIQQ")
    if magic != b"GGUF" or version not in (2, 3):
        raise ValueError("no GGUF that is known")
    alignment = 32
    for _ in range(values):
        key = _text(file)
        (kind,) = _read(file, "<I")
        if key == _ALIGNMENT and kind == 4:
            (alignment,) = _read(file, "<I")
        else:
            _skip(file, kind)
    end = 0
    for _ in range(tensors):
        _text(file)
        (dimensions,) = _read(file, "<I")
        if dimensions > 8:
            raise ValueError("a tensor has too many dimensions")
        *shape, kind, offset = _read(file, f"<{dimensions}QIQ")
        block, size = _BLOCKS.get(kind, (0, 0))
        end = max(end, offset + (math.prod(shape) // block * size if block else 1))
    head = file.tell()
    return head if not tensors else head + -head % max(1, alignment) + end


def _skip(file: BinaryIO, kind: int) -> None:
    if kind == _STRING:
        _text(file)
    elif kind != _ARRAY:
        file.seek(_size(kind), 1)
    else:
        of, length = _read(file, "<IQ")
        if of in (_STRING, _ARRAY):
            for _ in range(length):
                _skip(file, of)
        else:
            file.seek(length * _size(of), 1)


def _size(kind: int) -> int:
    if kind not in _SCALARS:
        raise ValueError("a value is of no type that is known")
    return _SCALARS[kind]


def _text(file: BinaryIO) -> bytes:
    (length,) = _read(file, "<Q")
    if length > _MAX_TEXT:
        raise ValueError("a text is too long")
    text = file.read(length)
    if len(text) != length:
        raise ValueError("it ends within its head")
    return bytes(text)


def _read(file: BinaryIO, form: str) -> tuple[Any, ...]:
    data = file.read(struct.calcsize(form))
    if len(data) != struct.calcsize(form):
        raise ValueError("it ends within its head")
    return struct.unpack(form, data)
