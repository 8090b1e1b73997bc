"""Which fault does an attempt meet? Drawn from the seed, the request, the backend and the attempt: a run can be told
again. How bad the times are at a backend (its weather) comes from outside, for it depends on the traffic."""

from __future__ import annotations

import itertools
import random

from tests.faults.faults import FAULTS, GOOD, LAST, MOVES_ON, End, Fault

POISON = 0.005
"""Part of the requests that make every faulty backend fail alike."""
ALIKE = 0.01
"""Part of the requests that meet one and the same fault everywhere."""
MILD = 0.2
"""Part of the attempts that meet a fault that no endpoint is taken out for, in any weather."""


class _Pool:
    """Faults by weight, for streams or for JSON."""

    def __init__(self, faults: tuple[Fault, ...], stream: bool) -> None:
        self._faults = [f for f in faults if f.stream is None or f.stream == stream]
        self._weights = list(itertools.accumulate(f.weight for f in self._faults))

    def draw(self, draw: random.Random) -> Fault:
        return draw.choices(self._faults, cum_weights=self._weights)[0]


class Fate:
    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._good = {s: _Pool(GOOD, s) for s in (False, True)}
        self._fair = {s: _Pool(tuple(f for f in GOOD if f.name != "bytes while idle"), s) for s in (False, True)}
        self._bad = {s: _Pool((*MOVES_ON, *LAST), s) for s in (False, True)}
        mild = tuple(f for f in (*MOVES_ON, *LAST) if f.verdict in ("Busy", "Unfit", "Caller"))
        self._mild = {s: _Pool(mild, s) for s in (False, True)}
        self._brief = {s: _Pool(tuple(f for f in MOVES_ON if f.barred_at_most < 30), s) for s in (False, True)}

    def fault(self, backend: str, request: str, nth: int, stream: bool, badness: float) -> Fault:
        """`nth` counts the arrivals of this request at this backend; `badness` is the chance of a fault."""
        whole = random.Random(f"{self._seed}/{request}")
        kind = whole.random()
        if kind < POISON:
            return FAULTS["500"]
        if kind < POISON + ALIKE:
            return self._brief[stream].draw(whole)
        draw = random.Random(f"{self._seed}/{request}/{backend}/{nth}")
        chance = draw.random()
        if chance < badness:
            return self._bad[stream].draw(draw)
        return (self._mild if chance < badness + MILD else self._good)[stream].draw(draw)

    def good(self, backend: str, request: str, nth: int, stream: bool) -> Fault:
        """Odd perhaps, and never wrong, not even to the next request of the connection."""
        draw = random.Random(f"{self._seed}/{request}/{backend}/{nth}")
        return self._fair[stream].draw(draw)


assert all(f.end is End.WHOLE for f in GOOD)
