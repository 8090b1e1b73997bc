"""Deadlines fire once, never early, at most a tick late, wherever they were moved meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.gateway.relay.wheel import NEVER, TICK_SECONDS, Wheel


class Time:
    """A loop and a clock that move by hand."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.timers: list[tuple[float, Callable[[], None], list[bool]]] = []

    def clock(self) -> float:
        return self.now

    def call_later(self, delay: float, call: Callable[[], None]) -> Any:
        cancelled: list[bool] = []
        self.timers.append((self.now + delay, call, cancelled))
        return type("Handle", (), {"cancel": staticmethod(lambda: cancelled.append(True))})

    def run_until(self, end: float) -> None:
        while due := [t for t in self.timers if t[0] <= end and not t[2]]:
            first = min(due, key=lambda t: t[0])
            self.timers.remove(first)
            self.now = max(self.now, first[0])
            first[1]()
        self.now = end


class Item:
    def __init__(self, time: Time) -> None:
        self.deadline = NEVER
        self.due = NEVER
        self.fired: list[float] = []
        self._time = time

    def on_deadline(self, now: float) -> None:
        assert now >= self.deadline
        self.fired.append(self._time.now)


STEPS = st.lists(
    st.tuples(st.sampled_from(["set", "wait", "forget"]), st.integers(0, 3), st.floats(0, 3, allow_nan=False)),
    max_size=40,
)


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_deadlines_fire_once_and_in_time(steps: list[tuple[str, int, float]]) -> None:
    time = Time()
    wheel = Wheel(time, time.clock)  # type: ignore[arg-type]
    items = [Item(time) for _ in range(4)]
    expected: list[float | None] = [None] * 4
    for kind, n, amount in steps:
        item = items[n]
        if kind == "set":
            wheel.set(item, time.now + amount)
            expected[n] = time.now + amount
        elif kind == "forget":
            wheel.forget(item)
            expected[n] = None
        else:
            counts = [len(i.fired) for i in items]
            time.run_until(time.now + amount)
            for i, one in enumerate(items):
                due = expected[i]
                new = one.fired[counts[i] :]
                if due is not None and due + 2 * TICK_SECONDS <= time.now:
                    assert len(new) == 1
                    expected[i] = None
                elif new:
                    assert due is not None
                    expected[i] = None
                if new:
                    assert due is not None
                    assert due <= new[0] <= due + 2 * TICK_SECONDS


def test_one_timer_for_many() -> None:
    time = Time()
    wheel = Wheel(time, time.clock)  # type: ignore[arg-type]
    for _ in range(1000):
        wheel.set(Item(time), time.now + 5)
    assert sum(not t[2] for t in time.timers) == 1
