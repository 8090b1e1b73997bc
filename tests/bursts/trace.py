"""When who asks for how much: a trace of requests, from a seed. Pure.

A trace is made of phases, dealt from a shuffled bag so that every kind comes again and again:

- a *burst*: as many requests at once as need two or three pods;
- a *simmer*: one or two streams at a time, most of them long, while the pods of the burst go away beneath them;
- a *flicker*: many requests in a second, then nothing for a quarter of a minute: what makes autoscalers flap;
- a *lull*: nobody asks, for longer than it takes to go to none.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["burst", "simmer", "flicker", "lull"]

TICK = 0.5
"""Seconds from one word of an answer to the next."""
BAG: tuple[Kind, ...] = ("burst", "simmer", "flicker", "burst", "simmer", "lull")
LENGTHS: dict[Kind, tuple[float, float]] = {
    "burst": (30, 75),
    "simmer": (90, 150),
    "flicker": (60, 100),
    "lull": (110, 150),
}
LONGEST = 30.0
"""Seconds of the longest answer."""
LONGEST_JSON = 10.0
"""Longer ones are streams, as they are in life: nobody looks at a blank page for half a minute."""
FLICKER_EVERY = 15.0


@dataclass(frozen=True)
class Request:
    at: float
    """Seconds since the trace began."""
    number: int
    words: int
    stream: bool

    @property
    def seconds(self) -> float:
        """How long its answer takes."""
        return self.words * TICK

    @property
    def name(self) -> str:
        """What its answer begins with."""
        return f"r{self.number}"


@dataclass(frozen=True)
class Phase:
    kind: Kind
    begins: float
    ends: float


@dataclass(frozen=True)
class Trace:
    seed: int
    phases: tuple[Phase, ...]
    requests: tuple[Request, ...]

    @property
    def ends(self) -> float:
        return self.phases[-1].ends


def make(seed: int, seconds: float) -> Trace:
    """A trace of at least so many seconds that ends with a lull."""
    chance = random.Random(seed)
    phases: list[Phase] = []
    now = 0.0
    bag: list[Kind] = []
    while now < seconds or phases[-1].kind != "lull":
        if not bag:
            bag = list(BAG)
            chance.shuffle(bag)
        now = _add(phases, bag.pop() if now < seconds else "lull", chance, now)
    return _filled(seed, chance, phases)


def of(seed: int, phases: Sequence[tuple[Kind, float]]) -> Trace:
    """A trace of these phases, each with its length in seconds."""
    out: list[Phase] = []
    now = 0.0
    for kind, length in phases:
        out.append(Phase(kind, now, now + length))
        now += length
    return _filled(seed, random.Random(seed), out)


def _add(phases: list[Phase], kind: Kind, chance: random.Random, now: float) -> float:
    until = now + chance.uniform(*LENGTHS[kind])
    phases.append(Phase(kind, now, until))
    return until


def _filled(seed: int, chance: random.Random, phases: list[Phase]) -> Trace:
    drawn = sorted(one for phase in phases for one in _phase(phase, chance))
    requests = []
    for number, (at, length) in enumerate(drawn):
        stream = length > LONGEST_JSON or chance.random() < 0.8
        requests.append(Request(at, number, max(1, round(length / TICK)), stream))
    return Trace(seed, tuple(phases), tuple(requests))


def _phase(phase: Phase, chance: random.Random) -> list[tuple[float, float]]:
    """(when, how many seconds of an answer)."""
    out = []
    now = phase.begins
    match phase.kind:
        case "lull":
            pass
        case "burst":
            at_once = chance.uniform(6, 11)
            while now < phase.ends:
                length = chance.uniform(2, 10)
                out.append((now, length))
                now += chance.expovariate(at_once / 6)
        case "simmer":
            while now < phase.ends:
                length = chance.uniform(20, LONGEST) if chance.random() < 0.6 else chance.uniform(2, 6)
                out.append((now, length))
                now += chance.uniform(8, 18)
        case "flicker":
            while now < phase.ends:
                out += [(now + chance.uniform(0, 1), chance.uniform(1, 2)) for _ in range(8)]
                now += FLICKER_EVERY
    return out
