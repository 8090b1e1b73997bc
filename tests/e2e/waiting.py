"""Waiting for a condition, with its name in the error; and what need not be waited for."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(condition: Callable[[], T], what: str, seconds: float) -> T:
    """Asks until the answer is truthy, and gives it. Raises AssertionError that names what did not happen."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:.0f} s: {what}; last seen: {value!r}")
        time.sleep(0.1)


def fresh(name: str) -> str:
    """A namespace's name of this run: one of an earlier run may still be going away."""
    return f"{name}-{os.getpid()}"
