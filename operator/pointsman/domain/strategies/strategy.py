"""What a strategy is, and how its figures become an order.

Decided here: the smallest key goes first; among equals chance, drawn from the request's id, picks one fairly. Not here:
what the keys are made of (the files beside this one), and who is a candidate at all (`candidates.py`).

A strategy is a pure function of its seats, the request and the time. `first` is the head of `arranged` without the
list: the data path takes it when nothing stands in the way of anyone.

Seats and strategies are classes, not protocols: calls among compiled modules are plain C calls then, and a choice of
three costs a third.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from pointsman.api import route as api
from pointsman.domain.features import Features
from pointsman.domain.health import EndpointMachine

if TYPE_CHECKING:
    from pointsman.domain.table import Endpoint, Target


class Seat:
    """An endpoint that may be asked for a target."""

    __slots__ = ("endpoint", "machine", "target")

    def __init__(self, target: Target, endpoint: Endpoint, machine: EndpointMachine) -> None:
        self.target = target
        self.endpoint = endpoint
        self.machine = machine


S = TypeVar("S", bound=Seat)


class Strategy:
    name: ClassVar[api.Strategy]

    def keys(self, seats: tuple[Seat, ...], request: Features, now: float) -> list[Any]:
        """One for each seat, comparable; the smallest goes first."""
        raise NotImplementedError

    def quick(self, seats: tuple[Seat, ...], request: Features, now: float) -> int:
        """The place of the seat that goes first, where that can be had for less than the keys; -1 where it cannot."""
        return -1

    def words(self, seats: tuple[Seat, ...], request: Features, now: float) -> list[str]:
        """For each seat, the figures that decided, for people."""
        raise NotImplementedError


def arranged(strategy: Strategy, seats: tuple[S, ...], request: Features, now: float) -> list[S]:
    """All seats, the first choice first."""
    if len(seats) < 2:
        return list(seats)
    keys = strategy.keys(seats, request, now)
    order = sorted(range(len(seats)), key=keys.__getitem__)
    out: list[S] = []
    start = 0
    while start < len(order):
        end = start + 1
        while end < len(order) and keys[order[end]] == keys[order[start]]:
            end += 1
        equals = [seats[i] for i in order[start:end]]
        turn = request.seed % len(equals) if len(equals) > 1 else 0
        out += equals[turn:] + equals[:turn]
        start = end
    return out


def first(strategy: Strategy, seats: tuple[S, ...], request: Features, now: float) -> S:
    """`arranged(…)[0]`. There must be a seat."""
    if len(seats) == 1:
        return seats[0]
    place = strategy.quick(seats, request, now)
    if place >= 0:
        return seats[place]
    keys = strategy.keys(seats, request, now)
    best = min(keys)
    equals = keys.count(best)
    at = keys.index(best)
    for _ in range(request.seed % equals if equals > 1 else 0):
        at = keys.index(best, at + 1)
    return seats[at]


def busy_words(seat: Seat, now: float) -> str:
    """What a seat has to do, for people."""
    machine = seat.machine
    words = f"{machine.in_flight} in flight"
    if machine.others:
        words += f", {machine.others} of others"
    failures = machine.failures_in_a_row(now)
    if failures:
        words += f", {failures} failure{'s' if failures > 1 else ''} in a row"
    return words


def pace_words(seat: Seat, request: Features, now: float) -> str:
    ms = seat.machine.pace_of(seat.target.upstream_model, request.stream, now)
    if ms is None:
        return ""
    return f"{'first token' if request.stream else 'answer'} after {ms:.0f} ms"
