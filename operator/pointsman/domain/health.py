"""Is this endpoint healthy? One state machine per endpoint, fed with verdicts of real answers and with probes.

    Unknown → Healthy ⇄ Degraded → Unhealthy → Probation → Healthy

Beside the state stand flags that keep an endpoint, or one model of it, out without saying that it is broken: saturated,
loading, missing models, denied. Decided here: when a state or a flag changes. Not here: what an outcome means
(`verdict.py`) and who goes first (`candidates.py`).

Invariants: time comes in as an argument (seconds of any one clock); a verdict that does not count leaves the state
alone; every change of state is returned as a `Transition`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import StrEnum

from pointsman.domain.verdict import Judgement, Verdict, Why

FAILURES_IN_A_ROW = 5
WINDOW_SECONDS = 30
WINDOW_MIN_ANSWERS = 10
DISTINCT_REQUESTS = 3
FORBIDDEN_REQUESTS = 3
"""A 403 may be about one request only: this many different requests must have met it."""
MODEL_RETRY_SECONDS = 30.0
DENIED_FIRST_SECONDS = 60.0
DENIED_LAST_SECONDS = 600.0
RETRY_AFTER_MAX_SECONDS = 60.0
BUSY_PAUSE_SECONDS = (0.25, 0.5, 1.0, 2.0, 4.0)
LOADING_PAUSE_SECONDS = (0.5, 1.0, 2.0, 5.0)
RAMP_LAST = 8
"""Requests at once that the last step of Probation admits; the first admits one."""
RELAPSES_COUNTED = 3
"""Each relapse out of Probation doubles the good probes that are wanted, this many times at most."""
ANY_MODEL = ""


class State(StrEnum):
    UNKNOWN = "Unknown"
    HEALTHY = "Healthy"
    DEGRADED = "Degraded"
    UNHEALTHY = "Unhealthy"
    PROBATION = "Probation"


class Obstacle(StrEnum):
    """Why an endpoint should not be asked for a model now."""

    UNHEALTHY = "Unhealthy"
    SATURATED = "Saturated"
    LOADING = "Loading"
    MODEL_MISSING = "ModelMissing"
    DENIED = "Denied"
    RAMPING = "Ramping"
    """In Probation, with as many requests as this step of the ramp admits."""


class ProbeOutcome(StrEnum):
    OK = "Ok"
    FAILED = "Failed"
    TIMED_OUT = "TimedOut"
    BUSY = "Busy"
    LOADING = "Loading"
    DENIED = "Denied"
    UNSUPPORTED = "Unsupported"
    """The server answers but does not know the path (404, 405)."""


@dataclass(frozen=True)
class Probed:
    """What one probe found."""

    outcome: ProbeOutcome
    started: float
    """When the probe began, by the clock of the machine."""
    latency_ms: float | None = None
    missing: frozenset[str] | None = None
    """Models (as the engine calls them) that should be there and are not; None when the probe cannot tell."""
    retry_after: float | None = None
    reason: str = ""
    """One PascalCase word for a failure, such as `Refused`; a default follows from the outcome."""
    message: str = ""


@dataclass(frozen=True)
class Thresholds:
    """Of the backend's `spec.probe`."""

    failure: int
    success: int


@dataclass(frozen=True)
class Transition:
    old: State
    new: State
    reason: str
    message: str
    at: float


@dataclass(frozen=True)
class Denial:
    version: str
    """The credential's version that was refused."""
    until: float
    pause: float


@dataclass(frozen=True)
class Hindrance:
    """An obstacle and, when it ends by itself, when."""

    obstacle: Obstacle
    until: float | None = None


@dataclass(slots=True)
class _Failed:
    at: float
    request: object
    by_answer: bool


class EndpointMachine:
    """The health of one endpoint. Mutable, single-threaded; reads no clock."""

    __slots__ = (
        "_before", "_busy_streak", "_ejected_by", "_failures", "_forbidden", "_loading_streak", "_ok_count",
        "_ok_second", "_probe_failures", "_probe_successes", "_ramp", "_ramp_successes", "_relapses", "_streak",
        "advanced_at", "clear", "denied", "in_flight", "latency_ms", "loading_until", "message", "missing",
        "reason", "saturated", "since", "state", "thresholds", "trials",
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
        self.trials = 0
        """Requests in flight that were begun in Probation or in spite of Unhealthy."""
        self.advanced_at = float("-inf")
        """When anything last came back for any request."""
        self.saturated: dict[str, float] = {}
        """Model → until when. `ANY_MODEL` stands for all."""
        self.missing: dict[str, float] = {}
        """Model → when it may be tried again."""
        self.denied: dict[str, Denial] = {}
        self.loading_until = 0.0
        self.clear = True
        """True when no state and no flag stands in the way of any model: the quick answer to `hindrance`."""
        self._failures: deque[_Failed] = deque(maxlen=128)
        self._streak: deque[_Failed] = deque(maxlen=FAILURES_IN_A_ROW * 4)
        self._ok_second = [-1] * WINDOW_SECONDS
        self._ok_count = [0] * WINDOW_SECONDS
        self._forbidden: dict[str, set[object]] = {}
        self._busy_streak = 0
        self._loading_streak = 0
        self._probe_failures = 0
        self._probe_successes = 0
        self._ramp = 1
        self._ramp_successes = 0
        self._relapses = 0
        self._before: State | None = None
        self._ejected_by: object = None

    # ---- traffic

    def begin(self) -> bool:
        """Counts a request in; True when it is a trial, which `end` wants to hear back."""
        self.in_flight += 1
        if self.state is State.PROBATION or self.state is State.UNHEALTHY:
            self.trials += 1
            return True
        return False

    def end(self, trial: bool) -> None:
        self.in_flight -= 1
        if trial:
            self.trials -= 1

    def succeeded(self, model: str, latency_ms: float | None, now: float) -> Transition | None:
        """A real answer: the best probe."""
        self.advanced_at = now
        if latency_ms is not None:
            self.latency_ms = latency_ms
        second = int(now)
        slot = second % WINDOW_SECONDS
        if self._ok_second[slot] != second:
            self._ok_second[slot] = second
            self._ok_count[slot] = 0
        self._ok_count[slot] += 1
        if self.state is State.HEALTHY and self.clear and not self._streak:
            return None
        return self._heal(model, now)

    def observe(
        self, judged: Judgement, model: str, request: object, now: float, *, waited_since: float, credential: str = "",
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
                return self._eject(judged.why.value, judged.sentence, now, request)
            case Verdict.BUSY:
                self._pause(model, judged.retry_after, now, jitter)
            case Verdict.LOADING:
                self._load(judged.retry_after, now)
            case Verdict.MODEL_MISSING:
                self.missing[model] = now + MODEL_RETRY_SECONDS
            case Verdict.DENIED:
                if judged.why is Why.FORBIDDEN and model not in self.denied:
                    seen = self._forbidden.setdefault(model, set())
                    seen.add(request)
                    if len(seen) < FORBIDDEN_REQUESTS:
                        return None
                self._deny(model, credential, now)
            case _:
                return None
        self.clear = False
        return None

    def withdraw(self, request: object, now: float) -> Transition | None:
        """Another candidate gave this request the same failing answer: the request is to blame, not the endpoint."""
        for log in (self._failures, self._streak):
            kept = [f for f in log if not (f.by_answer and f.request == request)]
            log.clear()
            log.extend(kept)
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
                self._pause(ANY_MODEL, probe.retry_after, now, jitter)
            case ProbeOutcome.LOADING:
                self._load(probe.retry_after, now)
            case ProbeOutcome.DENIED:
                self._deny(ANY_MODEL, credential, now)
        self.clear = False
        return None

    # ---- reading

    def hindrance(self, model: str, credential: str, now: float) -> Hindrance | None:
        """What stands in the way of asking this endpoint for this model now."""
        if self.clear:
            return None
        if self._expire(now):
            return None
        for name in (model, ANY_MODEL):
            denial = self.denied.get(name)
            if denial is not None and denial.version == credential and now < denial.until:
                return Hindrance(Obstacle.DENIED, denial.until)
        if now < self.missing.get(model, 0.0):
            return Hindrance(Obstacle.MODEL_MISSING, self.missing[model])
        if self.state is State.UNHEALTHY:
            return Hindrance(Obstacle.UNHEALTHY)
        until = max(self.saturated.get(model, 0.0), self.saturated.get(ANY_MODEL, 0.0))
        if now < until:
            return Hindrance(Obstacle.SATURATED, until)
        if now < self.loading_until:
            return Hindrance(Obstacle.LOADING, self.loading_until)
        if self.state is State.PROBATION and self.trials >= self._ramp:
            return Hindrance(Obstacle.RAMPING)
        return None

    @property
    def load(self) -> int:
        """What a choice between endpoints compares: requests in flight, worsened by failures in a row, so that an
        endpoint that fails fast attracts no traffic."""
        return self.in_flight + 4 * len(self._streak)

    # ---- inner

    def _failed(self, judged: Judgement, request: object, now: float) -> Transition | None:
        failed = _Failed(now, request, judged.by_answer)
        self._failures.append(failed)
        self._streak.append(failed)
        if judged.why is Why.REFUSED or self.state is State.PROBATION or self._too_many(now):
            return self._eject(judged.why.value, judged.sentence, now, request if judged.by_answer else None)
        return self._settle(now, judged.why.value, judged.sentence)

    def _counts(self, now: float) -> tuple[int, int, int]:
        """Failures, answers, and distinct failed requests within the window."""
        recent = [f for f in self._failures if now - f.at < WINDOW_SECONDS]
        oldest = int(now) - WINDOW_SECONDS
        ok = sum(n for s, n in zip(self._ok_second, self._ok_count, strict=True) if s > oldest)
        return len(recent), len(recent) + ok, len({f.request for f in recent})

    def _too_many(self, now: float) -> bool:
        if len(self._streak) >= FAILURES_IN_A_ROW and len({f.request for f in self._streak}) >= DISTINCT_REQUESTS:
            return True
        failures, answers, distinct = self._counts(now)
        return answers >= WINDOW_MIN_ANSWERS and 2 * failures >= answers and distinct >= DISTINCT_REQUESTS

    def _settle(self, now: float, reason: str = "", message: str = "") -> Transition | None:
        """Healthy or Degraded, as the score says; other states stay."""
        if self.state not in (State.UNKNOWN, State.HEALTHY, State.DEGRADED):
            return None
        failures, answers, _ = self._counts(now)
        if len(self._streak) >= 2 or (answers >= 4 and 4 * failures >= answers):
            return None if self.state is State.DEGRADED else self._move(State.DEGRADED, reason, message, now)
        return self._move(State.HEALTHY, "", "", now) if self.state is State.DEGRADED else None

    def _heal(self, model: str, now: float) -> Transition | None:
        self._streak.clear()
        self._busy_streak = self._loading_streak = self._probe_failures = 0
        self.loading_until = 0.0
        self.missing.pop(model, None)
        self._forbidden.pop(model, None)
        self.denied.pop(model, None)
        self.denied.pop(ANY_MODEL, None)
        transition = None
        match self.state:
            case State.UNKNOWN:
                transition = self._move(State.HEALTHY, "", "", now)
            case State.DEGRADED:
                transition = self._settle(now)
            case State.UNHEALTHY:
                transition = self._to_probation(now)
            case State.PROBATION:
                self._ramp_successes += 1
                if self._ramp_successes >= self._ramp:
                    self._ramp, self._ramp_successes = self._ramp * 2, 0
                    if self._ramp > RAMP_LAST:
                        self._relapses = 0
                        transition = self._move(State.HEALTHY, "", "", now)
        self._expire(now)
        return transition

    def _probe_good(self, probe: Probed, now: float) -> Transition | None:
        self._probe_failures = 0
        if probe.latency_ms is not None and probe.outcome is ProbeOutcome.OK:
            self.latency_ms = probe.latency_ms
        if probe.missing is not None:
            self.missing = dict.fromkeys(probe.missing, now + MODEL_RETRY_SECONDS)
        self.denied.pop(ANY_MODEL, None)
        transition = None
        if self.state is State.UNHEALTHY:
            self._probe_successes += 1
            if self._probe_successes >= self.thresholds.success << min(self._relapses, RELAPSES_COUNTED):
                transition = self._to_probation(now)
        elif self.state is State.UNKNOWN and probe.outcome is ProbeOutcome.OK:
            transition = self._move(State.HEALTHY, "", "", now)
        elif self.state is State.DEGRADED:
            transition = self._settle(now)
        self._expire(now)
        return transition

    def _to_probation(self, now: float) -> Transition:
        self._ramp, self._ramp_successes = 1, 0
        self._streak.clear()
        self._failures.clear()
        return self._move(State.PROBATION, "", "", now)

    def _eject(self, reason: str, message: str, now: float, request: object) -> Transition | None:
        self._probe_successes = 0
        if self.state is State.UNHEALTHY:
            return None
        self._before, self._ejected_by = (self.state, request) if request is not None else (None, None)
        if self.state is State.PROBATION:
            self._relapses += 1
        return self._move(State.UNHEALTHY, reason, message, now)

    def _move(self, new: State, reason: str, message: str, now: float) -> Transition:
        transition = Transition(self.state, new, reason, message, now)
        self.state, self.reason, self.message, self.since = new, reason, message, now
        self._expire(now)
        return transition

    def _pause(self, model: str, retry_after: float | None, now: float, jitter: float) -> None:
        if retry_after is None:
            pause = BUSY_PAUSE_SECONDS[min(self._busy_streak, len(BUSY_PAUSE_SECONDS) - 1)]
            self._busy_streak += 1
        else:
            pause = min(max(retry_after, 0.0), RETRY_AFTER_MAX_SECONDS)
        self.saturated[model] = max(self.saturated.get(model, 0.0), now + pause * (1 + jitter / 10))

    def _load(self, retry_after: float | None, now: float) -> None:
        last = len(LOADING_PAUSE_SECONDS) - 1
        pause = LOADING_PAUSE_SECONDS[min(self._loading_streak, last)]
        self._loading_streak += 1
        if retry_after is not None:
            pause = min(max(retry_after, 0.0), LOADING_PAUSE_SECONDS[last])
        self.loading_until = now + pause

    def _deny(self, model: str, credential: str, now: float) -> None:
        last = self.denied.get(model)
        pause = DENIED_FIRST_SECONDS
        if last is not None and last.version == credential:
            if now < last.until:
                return
            pause = min(last.pause * 2, DENIED_LAST_SECONDS)
        self.denied[model] = Denial(credential, now + pause, pause)

    def _expire(self, now: float) -> bool:
        """Drops flags whose time has passed; True when none is left. Denials stay, for their pause grows, until an
        answer clears them."""
        if self.saturated:
            self.saturated = {m: t for m, t in self.saturated.items() if now < t}
        if self.missing:
            self.missing = {m: t for m, t in self.missing.items() if now < t}
        self.clear = not (
            self.saturated
            or self.missing
            or self.denied
            or now < self.loading_until
            or self.state is State.UNHEALTHY
            or self.state is State.PROBATION
        )
        return self.clear
