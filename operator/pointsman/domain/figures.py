"""What of a model decides how much memory it takes. Pure.

    memory = weights + keys and values of each token that is remembered + what the engine itself needs

Decided here: the shape of these figures, and how many bytes a number of tokens takes. Not here: where they come from
(`models/figures.py`, the catalogue), what a spec asks for and whether it fits (`engines/memory.py`).

A layer of attention keeps, for each token, `kv heads x (size of a key + size of a value)` numbers; one with a sliding
window keeps them for the window only; latent attention (DeepSeek) keeps one compressed vector; a linear layer keeps
none for a token.
"""

from __future__ import annotations

import msgspec


class Figures(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The figures of one model."""

    weights: int = 0
    """Bytes."""
    kv: int = 0
    """Numbers kept for each token in layers that remember all of them."""
    window_kv: int = 0
    """Numbers kept for each token in layers that remember the last `window` tokens."""
    window: int = 0
    """Tokens."""
    context: int = 0
    """Tokens that the model was made for; 0: not known."""


def kv_bytes(figures: Figures, tokens: int, number_bytes: float = 2.0) -> int:
    """Bytes of keys and values of one sequence of `tokens`. `number_bytes`: 2 for 16 bits."""
    remembered = figures.kv * tokens + figures.window_kv * min(tokens, figures.window or tokens)
    return int(remembered * number_bytes)


def tokens_within(figures: Figures, room: int, number_bytes: float = 2.0) -> int:
    """How long one sequence may be for its keys and values to take at most `room` bytes; a large number for a model
    that keeps nothing for a token."""
    low, high = 0, 1 << 30
    while low < high:
        middle = (low + high + 1) // 2
        if kv_bytes(figures, middle, number_bytes) <= room:
            low = middle
        else:
            high = middle - 1
    return low
