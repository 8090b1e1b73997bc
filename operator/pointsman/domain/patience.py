"""How long a long prompt may take until the first token.

An engine reads the prompt before it says anything, so `firstToken` and `firstTokenAfter` grow with it: once more for
each 64 KiB of the request, which is about 16,000 tokens of text. Nobody knows the tokens before the engine does; bytes
are good for a bound.
"""

from __future__ import annotations

from typing import Final

SHORT_BYTES: Final = 4096
"""Requests below count as no prompt at all."""
GROWTH_BYTES = 65536


def grown(seconds: float, size: int) -> float:
    """`seconds` for a request of `size` bytes."""
    return seconds if size < SHORT_BYTES else seconds * (1 + size / GROWTH_BYTES)
