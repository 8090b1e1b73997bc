"""Consumers in turn, requests of each in order."""

from __future__ import annotations

from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from pointsman.domain.fair_queue import FairQueue


def served(queue: FairQueue[str], times: int) -> list[str]:
    out = []
    for _ in range(times):
        waiter = queue.peek()
        assert waiter is not None
        queue.leave(waiter, served=True)
        out.append(waiter)
    return out


def test_a_flood_of_one_consumer_delays_another_by_one_turn() -> None:
    queue: FairQueue[str] = FairQueue()
    for n in range(50):
        queue.join(f"a{n}", "a")
    queue.join("b0", "b")
    queue.join("b1", "b")
    assert served(queue, 5) == ["a0", "b0", "a1", "b1", "a2"]


def test_who_leaves_does_not_cost_its_consumer_the_turn() -> None:
    queue: FairQueue[str] = FairQueue()
    for waiter, consumer in (("a0", "a"), ("a1", "a"), ("b0", "b")):
        queue.join(waiter, consumer)
    queue.leave("a0", served=False)
    queue.leave("a0", served=False)
    assert served(queue, 2) == ["a1", "b0"]
    assert queue.peek() is None
    assert not len(queue)


@given(st.lists(st.one_of(st.sampled_from("abc"), st.just("serve"), st.just("leave")), max_size=60))
def test_no_consumer_is_served_twice_while_another_waits_that_waited_before(steps: list[str]) -> None:
    queue: FairQueue[str] = FairQueue()
    numbers = count()
    waiting: dict[str, list[str]] = {}
    last: dict[str, int] = {}
    for at, step in enumerate(steps):
        if step == "serve":
            waiter = queue.peek()
            assert (waiter is None) == (not waiting)
            if waiter is None:
                continue
            consumer = waiter[0]
            assert waiter == waiting[consumer][0], "in order within a consumer"
            queue.leave(waiter, served=True)
            waiting[consumer].pop(0)
            if not waiting[consumer]:
                del waiting[consumer]
            for other in waiting:
                assert other == consumer or last[other] < at
            last[consumer] = at
        elif step == "leave":
            if waiting:
                consumer = max(waiting)
                waiter = waiting[consumer].pop()
                if not waiting[consumer]:
                    del waiting[consumer]
                queue.leave(waiter, served=False)
        else:
            waiter = f"{step}{next(numbers)}"
            waiting.setdefault(step, []).append(waiter)
            last.setdefault(step, at)
            queue.join(waiter, step)
        assert len(queue) == sum(map(len, waiting.values()))
