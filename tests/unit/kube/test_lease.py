"""Two candidates, one lease, clocks of the test's own."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import pytest

from pointsman.kube import lease as module
from pointsman.kube.connect import Conflict, Unreachable
from pointsman.kube.lease import DURATION_SECONDS, RENEW_SECONDS, Lease, LeaseLost
from pointsman.kube.resources import Obj


class Store:
    """The API server's part: one object, optimistic locking."""

    def __init__(self) -> None:
        self.lease: Obj | None = None
        self.away = False

    async def get(self, *_: Any) -> Obj | None:
        self._reach()
        return copy.deepcopy(self.lease)

    async def create(self, manifest: Obj) -> Obj:
        self._reach()
        if self.lease is not None:
            raise Conflict("exists")
        return self._write(manifest, 1)

    async def replace(self, manifest: Obj) -> Obj:
        self._reach()
        assert self.lease is not None
        if manifest["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
            raise Conflict("changed")
        return self._write(manifest, int(self.lease["metadata"]["resourceVersion"]) + 1)

    def _reach(self) -> None:
        if self.away:
            raise Unreachable("away")

    def _write(self, manifest: Obj, version: int) -> Obj:
        self.lease = copy.deepcopy(manifest)
        self.lease["metadata"]["resourceVersion"] = str(version)
        return copy.deepcopy(self.lease)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.0)


def candidate(store: Store, name: str, clock: Clock) -> Lease:
    return Lease(store, "ns", "l", name, clock)  # type: ignore[arg-type]


async def test_only_one_leads() -> None:
    store, clock = Store(), Clock()
    first, second = candidate(store, "first", clock), candidate(store, "second", clock)
    await first.acquire()
    assert not await second._try()
    clock.now += DURATION_SECONDS - 0.1
    assert await first._try(), "renewed"
    clock.now += DURATION_SECONDS - 0.1
    assert not await second._try(), "it saw the renewal only now"


async def test_lease_that_runs_out_is_taken() -> None:
    store, clock = Store(), Clock()
    first, second = candidate(store, "first", clock), candidate(store, "second", clock)
    await first.acquire()
    assert not await second._try()
    clock.now += DURATION_SECONDS + 0.1
    assert await second._try()
    assert store.lease is not None
    assert store.lease["spec"]["leaseTransitions"] == 1
    first.held = True
    with pytest.raises(LeaseLost):
        await first.hold()
    assert not first.held


async def test_a_candidate_that_was_started_again_goes_on() -> None:
    store, clock = Store(), Clock()
    await candidate(store, "pod", clock).acquire()
    again, other = candidate(store, "pod", clock), candidate(store, "other", clock)
    assert not await other._try()
    assert await again._try()
    assert store.lease is not None
    assert store.lease["spec"]["leaseTransitions"] == 0
    clock.now += DURATION_SECONDS - 0.1
    assert not await other._try(), "it saw the renewal only now"


async def test_released_lease_is_taken_at_once() -> None:
    store, clock = Store(), Clock()
    first, second = candidate(store, "first", clock), candidate(store, "second", clock)
    await first.acquire()
    assert not await second._try()
    await first.release()
    assert await second._try()


async def test_leader_gives_up_before_another_can_take_over() -> None:
    store, clock = Store(), Clock()
    first = candidate(store, "first", clock)
    await first.acquire()
    store.away = True
    holding = asyncio.create_task(first.hold())
    await asyncio.sleep(0)
    clock.now += RENEW_SECONDS - 0.5
    for _ in range(20):
        await asyncio.sleep(0)
    assert not holding.done(), "there is time to try again"
    clock.now += 1.0
    with pytest.raises(LeaseLost):
        await holding
    assert RENEW_SECONDS < DURATION_SECONDS


async def test_short_absence_of_the_api_server_is_survived() -> None:
    store, clock = Store(), Clock()
    first = candidate(store, "first", clock)
    await first.acquire()
    holding = asyncio.create_task(first.hold())
    for _ in range(3):
        store.away = True
        clock.now += RENEW_SECONDS / 2
        for _ in range(10):
            await asyncio.sleep(0)
        store.away = False
        before = store.lease
        for _ in range(20):
            await asyncio.sleep(0)
        assert store.lease != before
        assert not holding.done()
    holding.cancel()


async def test_conflict_of_an_own_late_write_is_no_loss() -> None:
    store, clock = Store(), Clock()
    first = candidate(store, "first", clock)
    await first.acquire()
    assert store.lease is not None
    fresh = store.get

    async def stale(*args: Any) -> Obj | None:
        seen = await fresh(*args)
        assert seen is not None
        seen["metadata"]["resourceVersion"] = "0"
        return seen

    store.get = stale  # type: ignore[method-assign]
    holding = asyncio.create_task(first.hold())
    for _ in range(20):
        await asyncio.sleep(0)
    assert not holding.done()
    holding.cancel()
