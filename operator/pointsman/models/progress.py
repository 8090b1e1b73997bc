"""How far a pull is: bytes, speed, time left. No clock of its own; the time comes in with each call.

Bytes that an earlier run left count as completed but not as speed; bytes that another Job fetches while we wait for it
count as both, since they are what the time left depends on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from pointsman.domain.report import PullProgress

SMOOTHING_SECONDS = 5.0
"""The speed forgets what happened this long ago (to a third)."""
_SAMPLE_SECONDS = 0.5
_WARM_BYTES = 1 << 20
"""Small blobs come first and say nothing of the speed: it is measured from here on."""


@dataclass
class Meter:
    """Sums what arrives and says so as a `PullProgress`."""

    now: float
    """Seconds, by the clock of the caller."""
    state: str = "Pulling"
    digest: str = ""
    total_bytes: int = 0
    completed_bytes: int = 0
    fetched_bytes: int = 0
    """What this run took from the network."""
    _speed: float | None = None
    _sampled_at: float = field(init=False)
    _moved_bytes: int = 0
    """What arrived by whoever's hand."""
    _sampled_bytes: int = 0

    def __post_init__(self) -> None:
        self._sampled_at = self.now

    def found(self, count: int) -> None:
        """`count` bytes are there without fetching; negative when bytes turned out to be worthless."""
        self.completed_bytes += count

    def elsewhere(self, count: int) -> None:
        """`count` more bytes are there by another Job's doing."""
        self.completed_bytes += count
        self._moved_bytes += count

    def fetched(self, count: int, now: float) -> None:
        """`count` bytes arrived."""
        self.completed_bytes += count
        self.fetched_bytes += count
        self._moved_bytes += count
        self._sample(now)

    def _sample(self, now: float) -> None:
        elapsed = now - self._sampled_at
        if elapsed < _SAMPLE_SECONDS:
            return
        if self._moved_bytes < min(_WARM_BYTES, self.total_bytes / 50):
            self._sampled_at, self._sampled_bytes = now, self._moved_bytes
            return
        speed = (self._moved_bytes - self._sampled_bytes) / elapsed
        weight = 1.0 if self._speed is None else 1.0 - math.exp(-elapsed / SMOOTHING_SECONDS)
        self._speed = speed if self._speed is None else self._speed + weight * (speed - self._speed)
        self._sampled_at, self._sampled_bytes = now, self._moved_bytes

    def snapshot(self, now: float) -> PullProgress:
        """What to tell now. There is no time left to tell while nothing moves."""
        self._sample(now)
        state = self.state
        if state == "Pulling" and 0 < self.total_bytes <= self.completed_bytes:
            state = "Verifying"
        pulling = state == "Pulling"
        speed = round(self._speed or 0.0) if pulling else 0
        left = self.total_bytes - self.completed_bytes
        eta = math.ceil(left / speed) if speed > 0 and self.total_bytes and left >= 0 else None
        return PullProgress(
            state=state,
            completed_bytes=self.completed_bytes,
            total_bytes=self.total_bytes,
            bytes_per_second=speed,
            eta_seconds=eta,
            digest=self.digest,
        )
