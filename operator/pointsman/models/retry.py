"""When the same request is worth another try, and after how long; and what time and chance are to a pull."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from pointsman.models.origin import PassingFailure

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Clockwork:
    """Time and chance, handed in so that tests can hold them."""

    monotonic: Callable[[], float] = time.monotonic
    """Seconds."""
    wall: Callable[[], float] = time.time
    """Unix seconds."""
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    chance: Callable[[], float] = random.random
    """In [0, 1)."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential backoff with full jitter. Only a row of tries without a byte gives up."""

    attempts: int = 6
    """Tries in a row without a single byte, before the pull gives up."""
    base_seconds: float = 0.5
    cap_seconds: float = 30.0

    def delay(self, failures: int, chance: float, retry_after: float | None = None) -> float:
        """Seconds to wait after the `failures`-th failure in a row (1, 2, …); `chance` in [0, 1).

        A server's `Retry-After` is a lower bound, up to twice the cap.
        """
        backoff = chance * min(self.cap_seconds, self.base_seconds * 2.0 ** min(failures, 30))
        return max(backoff, min(retry_after or 0.0, 2 * self.cap_seconds))


async def persist(once: Callable[[], Awaitable[T]], policy: RetryPolicy, clockwork: Clockwork) -> T:
    """Does `once` until it succeeds or the policy gives up. Raises its last `PassingFailure`, any other at once."""
    failures = 0
    while True:
        try:
            return await once()
        except PassingFailure as failure:
            failures += 1
            if failures >= policy.attempts:
                raise
            await clockwork.sleep(policy.delay(failures, clockwork.chance(), failure.retry_after))
