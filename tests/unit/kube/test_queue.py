"""The queue's promises, on a clock of the test's own."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pointsman.kube.queue import BACKOFF_CAP, BACKOFF_FIRST, JITTER, Again, RetryLater, Schedule, WorkQueue

KEYS = st.sampled_from("abcd")


def schedule() -> Schedule[str]:
    return Schedule(lambda: 0.0)


def test_key_that_waits_is_there_once() -> None:
    s = schedule()
    for _ in range(5):
        s.add("a", 0.0)
    assert s.pop(0.0) == "a"
    assert s.pop(0.0) is None


def test_earliest_time_asked_for_counts() -> None:
    s = schedule()
    s.add("a", 10.0)
    s.add("a", 3.0)
    s.add("a", 20.0)
    assert s.next_due() == 3.0
    assert s.pop(2.9) is None
    assert s.pop(3.0) == "a"
    assert s.next_due() is None


def test_what_is_due_before_now_goes_ahead() -> None:
    s = schedule()
    for key in "abc":
        s.add(key, 10.0)
    s.add("c", -50.0)
    s.add("d", -50.0)
    assert [s.pop(10.0) for _ in range(4)] == ["c", "d", "a", "b"]
    assert s.pop(10.0) is None


def test_what_is_added_while_worked_on_is_done_afterwards() -> None:
    s = schedule()
    s.add("a", 0.0)
    assert s.pop(0.0) == "a"
    s.add("a", 0.0)
    assert s.pop(5.0) is None, "never twice at a time"
    s.done("a", 1.0, None)
    assert s.pop(1.0) == "a"


def test_backoff_grows_to_a_cap_and_ends_with_a_success() -> None:
    s = schedule()
    waits = []
    now = 0.0
    for _ in range(12):
        s.add("a", now)
        assert s.pop(now) == "a"
        waits.append(s.failed("a", now))
        now += waits[-1]
    assert waits[:3] == [BACKOFF_FIRST, 2 * BACKOFF_FIRST, 4 * BACKOFF_FIRST]
    assert waits[-1] == BACKOFF_CAP
    assert s.pop(now) == "a"
    s.done("a", now, None)
    s.add("a", now)
    assert s.pop(now) == "a"
    assert s.failed("a", now) == BACKOFF_FIRST


def test_servers_own_wait_is_kept() -> None:
    s = schedule()
    s.add("a", 0.0)
    assert s.pop(0.0) == "a"
    assert s.failed("a", 0.0, at_least=30.0) == 30.0


@given(st.floats(0, 1))
def test_jitter_only_lengthens(chance: float) -> None:
    s: Schedule[str] = Schedule(lambda: chance)
    s.add("a", 0.0)
    assert s.pop(0.0) == "a"
    s.done("a", 0.0, 100.0)
    due = s.next_due()
    assert due is not None
    assert 100.0 <= due <= 100.0 * (1 + JITTER)


class Machine(RuleBasedStateMachine):
    """Any order of additions, work and failures, against a plain model."""

    @initialize()
    def begin(self) -> None:
        self.now = 0.0
        self.s = schedule()
        self.wanted: dict[str, float] = {}
        self.working: set[str] = set()

    def want(self, key: str, due: float) -> None:
        self.wanted[key] = min(due, self.wanted.get(key, due))

    @rule(key=KEYS, after=st.floats(0, 50))
    def add(self, key: str, after: float) -> None:
        self.s.add(key, self.now + after)
        self.want(key, self.now + after)

    @rule(seconds=st.floats(0.1, 60))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def pop(self) -> None:
        key = self.s.pop(self.now)
        due = {k for k, at in self.wanted.items() if at <= self.now and k not in self.working}
        if key is None:
            assert not due, "a key that is due was not given"
            return
        assert key in due
        del self.wanted[key]
        self.working.add(key)

    @precondition(lambda self: self.working)
    @rule(data=st.data(), again=st.none() | st.floats(0, 50))
    def done(self, data: st.DataObject, again: float | None) -> None:
        key = data.draw(st.sampled_from(sorted(self.working)))
        self.working.discard(key)
        self.s.done(key, self.now, again)
        if again is not None:
            self.want(key, self.now + again)

    @precondition(lambda self: self.working)
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.working)))
        self.working.discard(key)
        wait = self.s.failed(key, self.now)
        assert wait <= BACKOFF_CAP
        self.want(key, self.now + wait)

    @invariant()
    def next_due_is_the_earliest_that_nobody_works_on(self) -> None:
        free = [at for k, at in self.wanted.items() if k not in self.working]
        assert self.s.next_due() == (min(free) if free else None)


TestQueueModel = Machine.TestCase


async def test_failing_key_never_delays_another() -> None:
    queue: WorkQueue[str] = WorkQueue(chance=lambda: 0.0)
    seen: Counter[str] = Counter()
    done = asyncio.Event()

    async def reconcile(key: str) -> Again:
        seen[key] += 1
        if key == "bad":
            raise RetryLater("not yet", 60.0)
        if seen["good"] == 50:
            done.set()
        else:
            queue.add("good")
        return Again(None)

    errors: list[tuple[str, float]] = []
    worker = asyncio.create_task(queue.run(1, reconcile, lambda k, e, w: errors.append((k, w))))
    queue.add("bad")
    queue.add("good")
    async with asyncio.timeout(30):
        await done.wait()
    worker.cancel()
    assert seen["bad"] == 1
    assert errors == [("bad", 60.0)]


async def test_key_is_never_worked_on_twice_at_a_time_and_no_addition_is_lost() -> None:
    queue: WorkQueue[int] = WorkQueue(chance=lambda: 0.0)
    busy: set[int] = set()
    version = dict.fromkeys(range(5), 0)
    seen = dict.fromkeys(range(5), -1)
    rest = asyncio.Event()

    async def reconcile(key: int) -> Again:
        assert key not in busy
        busy.add(key)
        read = version[key]
        await asyncio.sleep(0)
        busy.discard(key)
        seen[key] = read
        if seen == version and all(v == 40 for v in version.values()):
            rest.set()
        return Again(None)

    worker = asyncio.create_task(queue.run(4, reconcile, lambda *_: pytest.fail("no error")))
    for number in range(1, 41):
        for key in version:
            version[key] = number
            queue.add(key)
        await asyncio.sleep(0)
    async with asyncio.timeout(30):
        await rest.wait()
    worker.cancel()


async def test_workers_end_when_cancelled_even_as_work_comes_in() -> None:
    for _ in range(50):
        queue: WorkQueue[str] = WorkQueue(chance=lambda: 0.0)

        async def reconcile(_: str) -> Again:
            return Again(None)

        workers = asyncio.create_task(queue.run(4, reconcile, lambda *_: None))
        await asyncio.sleep(0)
        queue.add("a")
        workers.cancel()
        async with asyncio.timeout(30):
            with pytest.raises(asyncio.CancelledError):
                await workers
