"""The rooms that requests wait in: who is woken by a free slot, and who goes ahead to a target that seems ready."""

from __future__ import annotations

from tests.support.running_gateway import external

from pointsman.api.objects import LLMBackend
from pointsman.domain.compiling import compile_table
from pointsman.domain.sharing import ALONE, Crew
from pointsman.domain.table import Backend
from pointsman.gateway.relay.hold import SCOUT_SECONDS, Hold
from pointsman.gateway.relay.waiting_room import Waiter, WaitingRoom


class One(Waiter):
    """A request that goes on when it may."""

    def __init__(self, room: WaitingRoom | None = None) -> None:
        self.room = room
        self.may = False
        self.is_cold = True
        self.asked = 0
        self.gone = False

    def go(self) -> bool:
        self.asked += 1
        if self.may and self.room is not None:
            self.room.leave(self, served=True)
            self.gone = True
        return self.may

    def cold(self) -> bool:
        return self.is_cold

    def warm(self) -> None:
        self.gone = True


def backend(name: str, queued: int = 2) -> Backend:
    spec = {**external(name, f"http://{name}.test/v1").spec.to_api(), "limits": {"maxInFlight": 1, "maxQueued": queued}}
    parsed = LLMBackend.parse({"metadata": {"name": name}, "spec": spec})
    return compile_table([parsed], [], {}, {}).backends[name]


def test_one_slot_wakes_one() -> None:
    room = WaitingRoom(lambda: ALONE)
    ones = [One(room) for _ in range(2)]
    for one in ones:
        assert room.join(one, "", [backend("a")])
    ones[0].may = True
    room.freed("a")
    assert ones[0].gone
    assert [o.asked for o in ones] == [1, 1], "the second looks, and stays"
    assert room.waiting("a") == 1


def test_who_waits_for_two_leaves_both_queues() -> None:
    room = WaitingRoom(lambda: ALONE)
    one = One(room)
    assert room.join(one, "", [backend("a"), backend("b")])
    assert (room.waiting("a"), room.waiting("b"), len(room)) == (1, 1, 1)
    one.may = True
    room.freed("b")
    assert (room.waiting("a"), room.waiting("b"), len(room)) == (0, 0, 0)


def test_a_full_queue_takes_nobody_and_another_may() -> None:
    room = WaitingRoom(lambda: ALONE)
    for _ in range(2):
        assert room.join(One(), "", [backend("a")])
    assert not room.join(One(), "", [backend("a")])
    assert room.join(One(), "", [backend("a"), backend("b")])
    assert (room.waiting("a"), room.waiting("b")) == (2, 1)


def test_places_are_shared_by_the_gateways() -> None:
    room = WaitingRoom(lambda: Crew(2, 0))
    taken = 0
    while room.join(One(), "", [backend("a", queued=10)]):
        taken += 1
    assert taken == 5


def test_who_cannot_go_keeps_its_place() -> None:
    room = WaitingRoom(lambda: ALONE)
    first, second = One(room), One(room)
    for one in (first, second):
        room.join(one, "", [backend("a")])
    second.may = True
    room.look()
    assert not second.gone
    first.may = True
    room.look()
    assert first.gone
    assert second.gone


def held(number: int) -> tuple[Hold, list[One]]:
    hold = Hold()
    ones = [One() for _ in range(number)]
    for one in ones:
        assert hold.join(one, "r", 10)
    return hold, ones


def test_the_oldest_goes_ahead_and_the_others_follow() -> None:
    hold, ones = held(3)
    hold.look(0.0)
    assert not any(o.gone for o in ones)
    for one in ones:
        one.is_cold = False
    hold.look(1.0)
    assert [o.gone for o in ones] == [True, False, False]
    hold.look(1.0 + SCOUT_SECONDS / 2)
    assert hold.count("r") == 2
    hold.look(1.0 + SCOUT_SECONDS)
    assert all(o.gone for o in ones)
    assert len(hold) == 0


def test_who_is_turned_away_is_first_again_though_the_hold_is_full() -> None:
    hold, ones = held(10)
    for one in ones:
        one.is_cold = False
    hold.look(0.0)
    assert ones[0].gone
    late = One()
    assert hold.join(late, "r", 10)
    ones[0].gone = False
    ones[0].is_cold = True
    assert hold.join(ones[0], "r", 10, first=True)
    assert not hold.join(One(), "r", 10)
    hold.look(5.0)
    assert not any(o.gone for o in ones)
    ones[0].is_cold = False
    hold.look(6.0)
    assert ones[0].gone
    assert not ones[1].gone


def test_who_leaves_is_not_looked_at() -> None:
    hold, ones = held(1)
    hold.leave(ones[0])
    hold.leave(ones[0])
    hold.look(0.0)
    assert hold.count("r") == 0
