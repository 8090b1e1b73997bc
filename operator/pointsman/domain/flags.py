"""What keeps an endpoint, or one model of it, out without saying that it is broken.

Saturated, loading, missing models, denied: each with its own patience. Decided here: how long each lasts. Not here:
which verdict raises which flag (`health.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

MODEL_RETRY_SECONDS = 30.0
FORBIDDEN_REQUESTS = 3
"""A 403 may be about one request only: this many different requests must have met it."""
DENIED_FIRST_SECONDS = 60.0
DENIED_LAST_SECONDS = 600.0
RETRY_AFTER_MAX_SECONDS = 60.0
BUSY_PAUSE_SECONDS = (0.25, 0.5, 1.0, 2.0, 4.0)
LOADING_PAUSE_SECONDS = (0.5, 1.0, 2.0, 5.0)
LOADING_LEAST_SECONDS = 0.25
"""Whatever it says: no model is loaded sooner."""
ANY_MODEL = ""


class Obstacle(StrEnum):
    """Why an endpoint should not be asked for a model now."""

    UNHEALTHY = "Unhealthy"
    SATURATED = "Saturated"
    LOADING = "Loading"
    MODEL_MISSING = "ModelMissing"
    DENIED = "Denied"
    AT_LIMIT = "AtLimit"
    """It has as many requests as its limit allows."""
    DRILL = "Drill"
    """Someone rehearses its failure."""
    RAMPING = "Ramping"
    """In Probation, with as many requests as this step of the ramp admits."""


@dataclass(frozen=True)
class Hindrance:
    """An obstacle and, when it ends by itself, when."""

    obstacle: Obstacle
    until: float | None = None


@dataclass(frozen=True)
class Denial:
    version: str
    """The credential's version that was refused."""
    until: float
    pause: float


class Flags:
    """The flags of one endpoint. Mutable, reads no clock."""

    __slots__ = (
        "_busy_streak",
        "_forbidden",
        "_loading_streak",
        "denied",
        "drill_until",
        "loading_until",
        "missing",
        "saturated",
    )

    def __init__(self) -> None:
        self.saturated: dict[str, float] = {}
        """Model → until when. `ANY_MODEL` stands for all."""
        self.missing: dict[str, float] = {}
        """Model → when it may be tried again."""
        self.denied: dict[str, Denial] = {}
        self.loading_until = 0.0
        self.drill_until = 0.0
        self._forbidden: dict[str, set[str]] = {}
        self._busy_streak = 0
        self._loading_streak = 0

    def busy(self, model: str, retry_after: float | None, now: float, jitter: float) -> None:
        """`retry_after` as the backend asked; without it a short pause that grows while it goes on."""
        if retry_after is None:
            pause = BUSY_PAUSE_SECONDS[min(self._busy_streak, len(BUSY_PAUSE_SECONDS) - 1)]
            self._busy_streak += 1
        else:
            pause = min(max(retry_after, 0.0), RETRY_AFTER_MAX_SECONDS)
        self.saturated[model] = max(self.saturated.get(model, 0.0), now + pause * (1 + jitter / 10))

    def loading(self, retry_after: float | None, now: float) -> None:
        last = len(LOADING_PAUSE_SECONDS) - 1
        pause = LOADING_PAUSE_SECONDS[min(self._loading_streak, last)]
        self._loading_streak += 1
        if retry_after is not None:
            pause = min(max(retry_after, LOADING_LEAST_SECONDS), LOADING_PAUSE_SECONDS[last])
        self.loading_until = now + pause

    def misses(self, model: str, now: float) -> None:
        self.missing[model] = now + MODEL_RETRY_SECONDS

    def lists(self, missing: frozenset[str], now: float) -> None:
        """A list of the engine's says exactly which models are missing."""
        self.missing = dict.fromkeys(missing, now + MODEL_RETRY_SECONDS)

    def forbids(self, model: str, request: str, credential: str, now: float) -> None:
        """A 403: a denial once enough different requests have met it."""
        seen = self._forbidden.setdefault(model, set())
        seen.add(request)
        if len(seen) >= FORBIDDEN_REQUESTS or model in self.denied:
            self.denies(model, credential, now)

    def denies(self, model: str, credential: str, now: float) -> None:
        """Each trial that is denied again doubles the pause."""
        last = self.denied.get(model)
        pause = DENIED_FIRST_SECONDS
        if last is not None and last.version == credential:
            if now < last.until:
                return
            pause = min(last.pause * 2, DENIED_LAST_SECONDS)
        self.denied[model] = Denial(credential, now + pause, pause)

    def answered(self, model: str) -> None:
        """The model gave a real answer: nothing stands in its way. Who was busy for others may still be."""
        self.calm()
        self.loading_until = 0.0
        self.missing.pop(model, None)
        self._forbidden.pop(model, None)
        self.denied.pop(model, None)
        self.denied.pop(ANY_MODEL, None)

    def calm(self) -> None:
        """The growing pauses begin anew."""
        self._busy_streak = self._loading_streak = 0

    def accepts_credential(self) -> None:
        """A probe was let in: what a probe was denied is over; models may still be."""
        self.denied.pop(ANY_MODEL, None)

    def expire(self, now: float) -> bool:
        """Drops what has passed; True when nothing is left. Denials stay until an answer clears them, for their pause
        grows."""
        if self.saturated:
            self.saturated = {m: t for m, t in self.saturated.items() if now < t}
        if self.missing:
            self.missing = {m: t for m, t in self.missing.items() if now < t}
        waiting = now < self.loading_until or now < self.drill_until
        return not (self.saturated or self.missing or self.denied or waiting)

    def denial(self, model: str, credential: str, now: float) -> Hindrance | None:
        for name in (model, ANY_MODEL):
            denial = self.denied.get(name)
            if denial is not None and denial.version == credential and now < denial.until:
                return Hindrance(Obstacle.DENIED, denial.until)
        return None

    def absence(self, model: str, now: float) -> Hindrance | None:
        until = self.missing.get(model, 0.0)
        return Hindrance(Obstacle.MODEL_MISSING, until) if now < until else None

    def saturation(self, model: str, now: float) -> Hindrance | None:
        until = max(self.saturated.get(model, 0.0), self.saturated.get(ANY_MODEL, 0.0))
        return Hindrance(Obstacle.SATURATED, until) if now < until else None

    def load(self, now: float) -> Hindrance | None:
        return Hindrance(Obstacle.LOADING, self.loading_until) if now < self.loading_until else None

    def drill(self, now: float) -> Hindrance | None:
        return Hindrance(Obstacle.DRILL, self.drill_until) if now < self.drill_until else None

    def any_of(self, model: str, credential: str, now: float) -> Hindrance | None:
        """What says more than the state does; loading says less (`load`)."""
        # Who is busy is left alone even where the least bad is tried: that must not hide behind a missing model.
        out = self.denial(model, credential, now) or self.saturation(model, now)
        return out or self.absence(model, now) or self.drill(now)
