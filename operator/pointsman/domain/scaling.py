"""How many pods a backend should have: its number follows the requests. Pure; time comes in (seconds of any one clock).

Decided here: when there are more pods, when fewer, when none, and why. Not here: where the figures come from
(`folding.load_of`), who carries it out (`controllers/`).

- The load is what is in flight and what waits, of all gateways, and what the engines tell beyond that. A pod is good
  for `target` of it.
- More pods come by the mean of the load over `up_window`: a burst of a second starts nothing, a real one is answered
  step by step while it lasts.
- Pods go when the largest number that was needed in the last `down_window` is smaller, never fewer than what is in
  flight at this moment needs, and only when every ready gateway has just told.
- The last pod goes after `idle_after` without a request, counted from when it became ready at the earliest; the first
  one comes with the next request, at once.
- A new operator takes the number that it finds, and holds it for a whole `down_window`.

Invariants, each with a property test: the number is within `least` and `most`; a constant load moves it in one
direction only; more load never means fewer pods; a number that was reached is kept for `down_window` unless nobody
asks at all or the policy changes.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

NEVER = float("-inf")
STEPS_WHILE_CHANGING = 5
"""While the load of the up window is not of one height, the mean moves without any news: it is looked at so often in
a window."""


@dataclass(frozen=True)
class Policy:
    """What a backend's `spec.autoscaling` says. Times in seconds."""

    least: int
    most: int
    target: int
    idle_after: float = 600.0
    """Heeded with `least` 0."""
    up_window: float = 15.0
    down_window: float = 300.0

    def clamp(self, replicas: int) -> int:
        """The nearest number that it allows."""
        return max(self.least, min(self.most, replicas))


@dataclass(frozen=True)
class Load:
    """What the gateways of a namespace say of one backend at one moment."""

    requests: int = 0
    """In flight, and waiting for it."""
    elsewhere: int = 0
    """What the engines have to do beyond that, as they told last: requests of others, and our own checks. It is work,
    but keeps nobody awake."""
    active_age: float | None = None
    """Seconds since it last had, or was wanted by, a request; None: no gateway knows of one."""
    complete: bool = False
    """Every ready gateway has just told, and there is one."""

    @property
    def work(self) -> int:
        return self.requests + self.elsewhere


@dataclass(frozen=True)
class Decision:
    replicas: int
    why: str
    """Why it is another number than before, in a few words; empty when it is the same."""
    again: float | None = None
    """Seconds until it may be another number without any news."""


class Scaler:
    """The past of one backend, as far as it matters. Mutable, single-threaded; reads no clock."""

    __slots__ = ("_loads", "_needs", "_now", "active_at", "replicas", "warm_since")

    def __init__(self, replicas: int, active_at: float = NEVER) -> None:
        """`replicas`: the number that is found."""
        self.replicas = replicas
        """The number of now; whoever carries a decision out sets it."""
        self.active_at = active_at
        """When there last was a request."""
        self.warm_since: float | None = None
        """Since when a pod can serve, with its models; None: none can."""
        self._now = Load()
        self._loads: deque[tuple[float, int]] = deque()
        """Steps of the load: since when, how much. The first one reaches back to the beginning of the up window."""
        self._needs: deque[tuple[float, int]] = deque()
        """Numbers that were needed, each with the last moment it was; the later, the smaller."""

    @property
    def load(self) -> Load:
        """What was noted last."""
        return self._now

    def observe(self, load: Load, policy: Policy, now: float) -> None:
        """Notes what the gateways say now."""
        if not self._loads:
            # Nobody knows what was before: as if it had been what so many pods are for.
            self._loads.append((NEVER, self.replicas * policy.target))
            self._needs.append((now, self.replicas))
        if load.work != self._loads[-1][1]:
            self._loads.append((now, load.work))
        while len(self._loads) > 1 and self._loads[1][0] <= now - policy.up_window:
            self._loads.popleft()
        if self._now.requests:
            self.active_at = now  # there was one until now
        self._now = load
        if load.active_age is not None:
            self.active_at = max(self.active_at, now - load.active_age)
        needed = self._needed(policy, now)
        # The load, and with it the need, was of one height until now.
        self._needs[-1] = (now, self._needs[-1][1])
        while self._needs and self._needs[-1][1] <= needed:
            self._needs.pop()
        self._needs.append((now, needed))
        while self._needs[0][0] < now - policy.down_window:
            self._needs.popleft()

    def decide(self, policy: Policy, now: float) -> Decision:
        """The number for now; call `observe` first, with the same `now`."""
        before, load = self.replicas, self._now
        needed, most_needed = self._needs[-1][1], self._needs[0][1]
        again = policy.up_window / STEPS_WHILE_CHANGING if len(self._loads) > 1 else None
        low = policy.least
        if not low:
            sleeps_in = self._sleeps_in(policy, now)
            if sleeps_in is not None and sleeps_in <= 0:
                return _decision(before, 0, f"no request for {length(policy.idle_after)}", None)
            low = 1
            again = _sooner(again, sleeps_in)
        if before < low:
            why = "a request wants it" if not before else f"spec.autoscaling.minReplicas is {low}"
            return _decision(before, max(low, min(needed, policy.most)), why, again)
        if before > policy.most:
            return _decision(before, policy.most, f"spec.autoscaling.maxReplicas is {policy.most}", again)
        if needed > before:
            why = f"{load.work} requests in flight or waiting, target {policy.target} for each pod"
            return _decision(before, min(needed, policy.most), why, again)
        if most_needed > needed:
            again = _sooner(again, self._needs[0][0] + policy.down_window - now)
        fewer = max(low, most_needed, _pods(load.work, policy))
        if fewer < before and load.complete:
            return _decision(before, fewer, f"more were not needed for {length(policy.down_window)}", again)
        return Decision(before, "", again)

    def _sleeps_in(self, policy: Policy, now: float) -> float | None:
        """Seconds until there need be no pod at all; None while that cannot be said."""
        load = self._now
        if load.requests:
            return None
        if not self.replicas:
            return self.active_at + policy.idle_after - now
        if self.warm_since is None:
            return None  # it starts, or pulls its models: somebody wanted it, and nobody could ask it yet
        left = max(self.active_at, self.warm_since) + policy.idle_after - now
        return left if left > 0 or load.complete else None

    def _needed(self, policy: Policy, now: float) -> int:
        """By the mean of the load over the up window."""
        begin = now - policy.up_window
        if policy.up_window <= 0 or len(self._loads) == 1:
            return _pods(self._loads[-1][1], policy)
        total, until = 0.0, now
        for since, requests in reversed(self._loads):
            total += requests * (until - max(since, begin))
            until = max(since, begin)
        return _pods(total / policy.up_window, policy)


def _pods(requests: float, policy: Policy) -> int:
    return math.ceil(requests / policy.target - 1e-9)  # a mean is not exact


def _decision(before: int, replicas: int, why: str, again: float | None) -> Decision:
    return Decision(replicas, f"{before} → {replicas}: {why}" if replicas != before else "", again)


def _sooner(one: float | None, other: float | None) -> float | None:
    return min((t for t in (one, other) if t is not None), default=None)


def length(seconds: float) -> str:
    """A time for people: `10m`, `1m30s`, `500ms`."""
    whole = round(seconds)
    if whole < 1:
        return f"{round(seconds * 1000)}ms"
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    return "".join(f"{n}{unit}" for n, unit in ((hours, "h"), (minutes, "m"), (left, "s")) if n)
