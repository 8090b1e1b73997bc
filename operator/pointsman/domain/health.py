"""Is this endpoint healthy? One state machine per endpoint, fed with verdicts of real answers and with probes.

    Unknown → Healthy ⇄ Degraded → Unhealthy → Probation → Healthy

Beside the state stand flags (`flags.py`), the score of real answers (`score.py`) and the way back (`ramp.py`). Decided
here: when the state changes, and which verdict does what. Not here: what an outcome means (`judging.py`) and who goes
first (`candidates.py`).

Invariants: time comes in as an argument (seconds of any one clock); a verdict that does not count leaves the state
alone; every change of state is returned as a `Transition`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from pointsman.domain.engine_load import EngineLoad
from pointsman.domain.flags import ANY_MODEL, Flags, Hindrance, Obstacle
from pointsman.domain.pace import Pace
from pointsman.domain.probed import Probed, ProbeOutcome
from pointsman.domain.ramp import Ramp
from pointsman.domain.score import Score
from pointsman.domain.verdict import Judgement, Verdict, Why

UNLIMITED: Final = sys.maxsize
FAILURE_BURDEN: Final = 4
"""Each failure in a row weighs as much as so many requests in flight."""


class State(StrEnum):
    UNKNOWN = "Unknown"
    HEALTHY = "Healthy"
    DEGRADED = "Degraded"
    UNHEALTHY = "Unhealthy"
    PROBATION = "Probation"


@dataclass(frozen=True)
class Thresholds:
    """Of the backend's `spec.probe`."""

    failure: int
    success: int
    generation: bool = False
    """Checks by one token are made: where a generation hangs, cheap checks prove nothing any more."""


@dataclass(frozen=True)
class Transition:
    old: State
    new: State
    reason: str
    message: str
    at: float


class EndpointMachine:
    """The health of one endpoint. Mutable, single-threaded; reads no clock."""

    __slots__ = (
        "_before", "_doubted_at", "_ejected_by", "_generation_failures", "_paces", "_probe_failures",
        "_probe_successes", "_ramp", "_score", "advanced_at", "clear", "doubted",
        "flags", "fresh", "in_flight", "latency_ms", "limit", "load", "message", "others", "reason",
        "since", "state", "thresholds", "trials",
    )  # fmt: skip

    def __init__(self, thresholds: Thresholds, now: float) -> None:
        self.thresholds = thresholds
        self.state = State.UNKNOWN
        self.reason = ""
        self.message = ""
        self.since = now
        self.latency_ms: float | None = None
        """Of the last good probe or answer."""
        self.in_flight = 0
        self.others = 0
        """Requests of others that it had when it last told its load."""
        self.load: EngineLoad | None = None
        """What it said then."""
        self.limit = UNLIMITED
        """Requests at once that this gateway may have there."""
        self.trials = 0
        """Requests in flight that were begun in Probation, or in spite of what stands in the way."""
        self.advanced_at = float("-inf")
        """When anything last came back for any request."""
        self.doubted = False
        """It listens, but a generation failed: only an answer brings it back, no cheap check."""
        self.fresh = False
        """The first pod of a backend that had none: it has yet to load its model, so it gets few requests at first."""
        self.flags = Flags()
        self.clear = True
        """True when no state, no flag and no limit stands in the way of any model: the quick answer to `hindrance`."""
        self._score = Score()
        self._paces: dict[str, Pace] = {}
        """By model, as the engine calls it."""
        self._probe_failures = 0
        self._probe_successes = 0
        self._ramp = Ramp()
        self._generation_failures = 0
        self._doubted_at = float("-inf")
        self._before: State | None = None
        self._ejected_by: str | None = None

    def begin_fresh(self) -> None:
        """It takes over from those who answered while there was no pod: by a ramp, as from Probation, but it is judged
        as any other."""
        self.fresh = True
        self.clear = False

    # ---- traffic

    @property
    def has_room(self) -> bool:
        """Its limit allows another request."""
        return self.in_flight < self.limit

    def begin(self, in_spite: bool = False) -> bool:
        """Counts a request in; True when it is a trial, which `end` wants to hear back. `in_spite` of what stands in
        the way: one such at a time."""
        self.in_flight = in_flight = self.in_flight + 1
        if in_flight >= self.limit:
            self.clear = False
        if in_spite or self.state is State.PROBATION or self.state is State.UNHEALTHY:
            self.trials += 1
            return True
        return False

    def admit(self, limit: int) -> None:
        """So many requests at once from now on; those in flight go on."""
        self.limit = limit
        self.clear = self.clear and self.in_flight < limit

    def told(self, load: EngineLoad | None) -> None:
        """What the engine says of its load; None when it does not, or no longer."""
        self.load = load
        self.others = 0 if load is None else max(0, load.running + load.waiting - self.in_flight)

    def end(self, trial: bool) -> bool:
        """True when this frees a slot that others may wait for."""
        in_flight = self.in_flight
        self.in_flight = in_flight - 1
        if trial:
            self.trials -= 1
        return in_flight >= self.limit

    def succeeded(self, model: str, latency_ms: float | None, now: float, *, stream: bool = False) -> Transition | None:
        """A real answer: the best probe. `latency_ms` is until the first content."""
        self.advanced_at = now
        if latency_ms is not None:
            self.latency_ms = latency_ms
            pace = self._paces.get(model)
            if pace is None:
                pace = self._paces[model] = Pace()
            pace.answered(stream, latency_ms, now)
        self._score.succeeded(now)
        if self.state is State.HEALTHY and self.clear:
            self._probe_failures = 0
            self.flags.calm()
            return None
        return self._heal(model, now)

    def observe(
        self, judged: Judgement, model: str, request: str, now: float, *, waited_since: float, credential: str = "",
        jitter: float = 0.0,
    ) -> Transition | None:  # fmt: skip
        """A verdict other than Success. `waited_since` is when the wait began that a Stalled verdict ended;
        `jitter` in [0, 1) spreads the return of those who were sent away together."""
        match judged.verdict:
            case Verdict.FAILURE:
                return self._failed(judged, request, now)
            case Verdict.STALLED:
                if self.advanced_at > waited_since:
                    return None
                self.doubted = self.thresholds.generation
                return self._eject(judged.why.value, judged.sentence, now, None)
            case Verdict.SLOW:
                self.slow(model, (now - waited_since) * 1000, now)
            case Verdict.BUSY:
                self.flags.busy(model, judged.retry_after, now, jitter)
            case Verdict.LOADING:
                self.flags.loading(judged.retry_after, now)
            case Verdict.MODEL_MISSING:
                self.flags.misses(model, now)
            case Verdict.DENIED if judged.why is Why.FORBIDDEN:
                self.flags.forbids(model, request, credential, now)
            case Verdict.DENIED:
                self.flags.denies(model, credential, now)
            case _:
                return None
        self._expire(now)
        return None

    def withdraw(self, request: str, now: float) -> Transition | None:
        """Another candidate gave this request the same failing answer: the request is to blame, not the endpoint."""
        self._score.withdraw(request)
        if self.state is State.UNHEALTHY and self._before is not None and self._ejected_by == request:
            return self._move(self._before, "", "", now)
        return self._settle(now)

    # ---- probes

    def probed(self, probe: Probed, now: float, *, credential: str = "", jitter: float = 0.0) -> Transition | None:
        match probe.outcome:
            case ProbeOutcome.OK | ProbeOutcome.UNSUPPORTED:
                return self._probe_good(probe, now)
            case ProbeOutcome.TIMED_OUT if self.advanced_at >= probe.started:
                return None
            case ProbeOutcome.FAILED | ProbeOutcome.TIMED_OUT:
                self._probe_successes = 0
                self._probe_failures += 1
                if self._probe_failures < self.thresholds.failure or self.state is State.UNHEALTHY:
                    return None
                reason = probe.reason or ("ProbeTimeout" if probe.outcome is ProbeOutcome.TIMED_OUT else "ProbeFailed")
                return self._eject(reason, probe.message or "its checks fail", now, None)
            case ProbeOutcome.BUSY:
                self.flags.busy(ANY_MODEL, probe.retry_after, now, jitter)
            case ProbeOutcome.LOADING:
                self.flags.loading(probe.retry_after, now)
            case ProbeOutcome.DENIED:
                self.flags.denies(ANY_MODEL, credential, now)
        self._expire(now)
        return None

    def generated(self, probe: Probed, now: float) -> Transition | None:
        """What a check by one token found. Failures count when they follow each other; an answer to anybody between
        two of them begins the count anew. What is neither leaves the judgement to the cheap checks."""
        match probe.outcome:
            case ProbeOutcome.OK:
                self._believe()
                return self._heal(ANY_MODEL, now)
            case ProbeOutcome.FAILED | ProbeOutcome.TIMED_OUT:
                if self.advanced_at >= probe.started:
                    return None
                if self.advanced_at > self._doubted_at:
                    self._generation_failures = 0
                self._generation_failures += 1
                self._doubted_at = now
                self.doubted = True
                if self._generation_failures < self.thresholds.failure:
                    return None
                return self._eject(probe.reason, probe.message, now, None)
            case _:
                self._believe()
                return None

    # ---- reading

    def hindrance(self, model: str, credential: str, now: float) -> Hindrance | None:
        """What stands in the way of asking this endpoint for this model now."""
        if self.clear or self._expire(now):
            return None
        flags = self.flags
        out = flags.any_of(model, credential, now)
        if out is None and self.state is State.UNHEALTHY:
            return Hindrance(Obstacle.UNHEALTHY)
        out = out or flags.load(now)
        if out is None and self.in_flight >= self.limit:
            return Hindrance(Obstacle.AT_LIMIT)
        if out is None and ((self.state is State.PROBATION and not self._ramp.admits(self.trials)) or self._rises()):
            return Hindrance(Obstacle.RAMPING)
        return out

    def burden(self, now: float) -> int:
        """What a choice between endpoints compares: requests in flight, worsened by failures in a row, so that an
        endpoint that fails fast attracts no traffic."""
        score = self._score
        return self.in_flight + FAILURE_BURDEN * score.recent_streak(now) if score.streak else self.in_flight

    def failures_in_a_row(self, now: float) -> int:
        """Those that still count."""
        return self._score.recent_streak(now)

    def pace_of(self, model: str, stream: bool, now: float, least: int = 1) -> float | None:
        """Milliseconds, smoothed; None when nothing is known that is fresh and of `least` answers."""
        pace = self._paces.get(model)
        return None if pace is None else pace.of(stream, now, least)

    def slow(self, model: str, ms: float, now: float) -> None:
        """A stream has not begun for so long, and nothing is broken."""
        pace = self._paces.get(model)
        if pace is None:
            pace = self._paces[model] = Pace()
        pace.slow(ms, now)

    # ---- inner

    def _rises(self) -> bool:
        """It is fresh, and has as many requests as this step of its ramp admits."""
        return self.fresh and not self._ramp.admits(self.in_flight)

    def _failed(self, judged: Judgement, request: str, now: float) -> Transition | None:
        self._score.failed(request, judged.by_answer, now)
        if judged.why is Why.REFUSED or self.state is State.PROBATION or self._score.too_many(now):
            return self._eject(judged.why.value, judged.sentence, now, request if judged.by_answer else None)
        return self._settle(now, judged.why.value, judged.sentence)

    def _settle(self, now: float, reason: str = "", message: str = "") -> Transition | None:
        """Healthy or Degraded, as the score says; other states stay."""
        if self.state not in (State.UNKNOWN, State.HEALTHY, State.DEGRADED):
            return None
        if self._score.poor(now):
            return None if self.state is State.DEGRADED else self._move(State.DEGRADED, reason, message, now)
        return self._move(State.HEALTHY, "", "", now) if self.state is State.DEGRADED else None

    def _believe(self) -> None:
        self.doubted = False
        self._generation_failures = 0

    def _heal(self, model: str, now: float) -> Transition | None:
        self._believe()
        self._probe_failures = 0
        self.flags.answered(model)
        transition = None
        if self.fresh:
            self.fresh = not self._ramp.succeeded()
        match self.state:
            case State.UNKNOWN:
                transition = self._move(State.HEALTHY, "", "", now)
            case State.DEGRADED:
                transition = self._settle(now)
            case State.UNHEALTHY:
                transition = self._to_probation(now)
            case State.PROBATION:
                if self._ramp.succeeded():
                    transition = self._move(State.HEALTHY, "", "", now)
        self._expire(now)
        return transition

    def _probe_good(self, probe: Probed, now: float) -> Transition | None:
        self._probe_failures = 0
        if probe.latency_ms is not None and probe.outcome is ProbeOutcome.OK:
            self.latency_ms = probe.latency_ms
        if probe.missing is not None:
            self.flags.lists(probe.missing, now)
        self.flags.accepts_credential()
        transition = None
        if self.state is State.UNHEALTHY and not self.doubted:
            self._probe_successes += 1
            if self._probe_successes >= self._ramp.probes_wanted(self.thresholds.success):
                transition = self._to_probation(now)
        elif self.state is State.UNKNOWN and probe.outcome is ProbeOutcome.OK:
            transition = self._move(State.HEALTHY, "", "", now)
        elif self.state is State.DEGRADED:
            transition = self._settle(now)
        self._expire(now)
        return transition

    def _to_probation(self, now: float) -> Transition:
        self._ramp.begin()
        self.fresh = False
        self._score.forget()
        return self._move(State.PROBATION, "", "", now)

    def _eject(self, reason: str, message: str, now: float, request: str | None) -> Transition | None:
        self._probe_successes = 0
        if self.state is State.UNHEALTHY:
            return None
        self._before, self._ejected_by = (self.state, request) if request is not None else (None, None)
        if self.state is State.PROBATION:
            self._ramp.relapsed()
        return self._move(State.UNHEALTHY, reason, message, now)

    def _move(self, new: State, reason: str, message: str, now: float) -> Transition:
        transition = Transition(self.state, new, reason, message, now)
        self.state, self.reason, self.message, self.since = new, reason, message, now
        self._expire(now)
        return transition

    def _expire(self, now: float) -> bool:
        """Works out `clear`."""
        in_rotation = self.state is not State.UNHEALTHY and self.state is not State.PROBATION
        self.clear = self.flags.expire(now) and in_rotation and self.in_flight < self.limit and not self.fresh
        return self.clear
