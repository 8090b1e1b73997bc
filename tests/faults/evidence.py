"""Might a gateway rightly leave this backend out at this moment, and must it? Pure.

Answered from what the backends did and from the changes of health that the gateway told of, not from the gateway's own
word about a request.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import accumulate

from tests.faults.attempts import Attempt
from tests.faults.faults import End
from tests.faults.values import Asked, Change, Down
from tests.faults.world import CHANGING, DEAD, LIMITED, NO_NAME

HAZE = 0.5
"""Seconds by which two processes on a busy machine may see one thing apart."""
BLUR = 0.1
"""Seconds by which a slot is held for longer than a backend works."""
CROWD = 2000
"""Requests at one backend that are looked at, from the last back."""
OUT = ("Unhealthy", "Probation")
FLAGS = {"Busy": "Saturated", "Loading": "Loading", "ModelMissing": "ModelMissing", "Denied": "Denied"}


def most_at_once(spans: Iterable[tuple[float, float]]) -> int:
    """Of these spans, how many overlap at the most crowded moment."""
    edges = sorted([(a, 1) for a, _ in spans] + [(b, -1) for _, b in spans])
    return max(accumulate(change for _, change in edges), default=0)


class Evidence:
    def __init__(
        self,
        attempts: Mapping[str, list[Attempt]],
        asked: Mapping[str, Asked],
        downs: Iterable[Down],
        changes: Iterable[Change],
        *,
        reloads: bool,
    ) -> None:
        self._reloads = reloads
        self._flags: dict[tuple[str, str, str], list[tuple[float, float]]] = defaultdict(list)
        """(backend, model, reason) → (from, until at most)."""
        self._downs: dict[str, list[Down]] = defaultdict(list)
        self._states: dict[str, list[Change]] = defaultdict(list)
        self._crowds: dict[str, list[tuple[float, float]]] = {b: [] for b in LIMITED}
        """Of backends with a limit: from when to when each request may have held a slot. Not only while the backend did
        something: until the gateway had enough of it."""
        self._good: dict[str, list[float]] = defaultdict(list)
        """Backend → when it gave whole answers."""
        self._unasked: dict[str, list[float]] = defaultdict(list)
        """Backend → when it said something on an idle connection."""
        for request, list_ in attempts.items():
            for a in list_:
                if a.backend in LIMITED and request in asked:
                    first = a.arrivals[0]
                    before = [b.last.done for b in list_ if b.last.done < first.at]
                    after = [b.arrivals[0].at for b in list_ if b.arrivals[0].at > a.last.at]
                    begin = (
                        first.at if first.reused else max(before, default=asked[request].at)
                    )  # a dial takes its time
                    self._crowds[a.backend].append((begin, max(a.last.done, min(after, default=asked[request].done))))
                if End.WHOLE in a.ends:
                    self._good[a.backend].append(a.last.done)
                for arrival in a.arrivals:
                    if arrival.fault == "bytes while idle":
                        self._unasked[a.backend].append(arrival.done)
                if a.fault.barred_at_most and request in asked:
                    model = "" if a.verdict == "Loading" else asked[request].model
                    span = (a.last.at, a.last.done + a.fault.barred_at_most)
                    self._flags[a.backend, model, FLAGS[a.verdict]].append(span)
        for moments in self._good.values():
            moments.sort()
        for spans in (*self._flags.values(), *self._crowds.values()):
            spans.sort()
        for down in downs:
            self._downs[down.backend].append(down)
        for change in sorted(changes, key=lambda c: c.at):
            self._states[change.backend].append(change)

    def barred(self, backend: str, model: str, at: float) -> str:
        """A reason why the backend may have been left out about then; empty for none."""
        if backend in DEAD or (self._reloads and backend in CHANGING):
            return "Unhealthy"
        if self.out(backend, at):
            return "Unhealthy"
        for reason in ("Saturated", "ModelMissing", "Denied"):
            if self._within(backend, model, reason, at):
                return reason
        if self.full(backend, at):
            return "AtLimit"
        return "Loading" if self._within(backend, "", "Loading", at) else ""

    def full(self, backend: str, at: float) -> bool:
        """Had it as many requests as its limit allows about then?"""
        capacity = LIMITED.get(backend)
        if capacity is None:
            return False
        spans = self._crowds[backend]
        last = bisect_right(spans, (at + HAZE, float("inf")))
        near = [(a, b) for a, b in spans[max(0, last - CROWD) : last] if b >= at - HAZE]
        # One is enough for a limit of one: who was asked and saw nothing of it may have held the slot.
        return most_at_once([(a - BLUR, b + BLUR) for a, b in near]) >= capacity.in_flight

    def bears_out(self, backend: str, model: str, reason: str, at: float) -> bool:
        """Is that reason for leaving it out true?"""
        if self._reloads and backend in CHANGING:
            return True
        if reason == "AtLimit":
            return self.full(backend, at) or self.down(backend, at, at)
        if reason == "Unhealthy":
            return backend in DEAD or self.out(backend, at)
        return self._within(backend, "" if reason == "Loading" else model, reason, at)

    def down(self, backend: str, begin: float, end: float) -> bool:
        """May a connection to it have failed between the two?"""
        if backend in DEAD or (self._reloads and backend in CHANGING):
            return True
        return any(d.at - HAZE <= end and begin <= d.until + HAZE for d in self._downs[backend])

    def fails_with(self, backend: str, why: str, begin: float, end: float) -> bool:
        """Is that a fault of a connection that nobody heard of?"""
        if backend == NO_NAME:
            return why == "DnsFailed"
        if backend in DEAD:
            return why == "TlsFailed"
        if why == "ServerError" and self.spoke_unasked(backend, begin, end):
            return True
        ours = ("Refused", "Reset", "Cut", "EndpointGone") if self._reloads else ("Refused", "Reset", "Cut")
        return why in ours and self.down(backend, begin, end)

    def spoke_unasked(self, backend: str, begin: float, end: float) -> bool:
        return any(begin - HAZE <= at <= end + HAZE for at in self._unasked[backend])

    def answered(self, backend: str, begin: float, end: float) -> bool:
        """Did it give anybody a whole answer between the two?"""
        good = self._good[backend]
        return bisect_left(good, begin - BLUR) < bisect_right(good, end + BLUR)

    def out(self, backend: str, at: float) -> bool:
        """Unhealthy or in Probation about then."""
        changes = self._states[backend]
        first = bisect_left(changes, at - HAZE, key=lambda c: c.at)
        last = bisect_right(changes, at + HAZE, key=lambda c: c.at)
        return any(c.new in OUT or c.old in OUT for c in changes[max(0, first - 1) : last])

    def changes(self) -> dict[str, list[Change]]:
        return self._states

    def downs(self, backend: str) -> list[Down]:
        return self._downs[backend]

    def _within(self, backend: str, model: str, reason: str, at: float) -> bool:
        spans = self._flags.get((backend, model, reason), [])
        # The longest patience is ten minutes; most are seconds. All that began before are looked at, newest first.
        for begin, until in reversed(spans[: bisect_right(spans, (at + HAZE, float("inf")))]):
            if at <= until + HAZE:
                return True
            if begin < at - 700:
                break
        return False
