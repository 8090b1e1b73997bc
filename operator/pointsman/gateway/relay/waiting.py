"""What one request waits for before it asks anybody, and what its client hears meanwhile.

Decided here: how long a wait lasts, and when a stream's client gets a sign of life: nothing for `silent_seconds`, then
the head of a stream and a comment each time that this is over again, until content comes. Not here: whether it waits
(`domain/waiting.py`), behind whom (`waiting_room.py`, `hold.py`).

Once the head went out, who answers is said in a comment and a failure is an event: HTTP has had its say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pointsman.domain.attempts import Tried
from pointsman.domain.candidates import Candidate, Ordering
from pointsman.domain.table import Backend, Endpoint
from pointsman.domain.verdict import Verdict
from pointsman.domain.waiting import Awaited, Wait
from pointsman.gateway.relay import replies
from pointsman.gateway.relay.hold import LOOK_SECONDS
from pointsman.gateway.relay.waiting_room import Waiter

if TYPE_CHECKING:
    from pointsman.gateway.relay.exchange import Exchange

NEVER = float("inf")


class Waiting(Waiter):
    """Of one request, made when it first waits."""

    __slots__ = (
        "_ends", "_exchange", "_since", "_speak_at", "_until", "head_sent", "holding", "over", "seconds", "wait",
    )  # fmt: skip

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self.wait: Wait | None = None
        """What it waits for now."""
        self.over: set[tuple[Awaited, int]] = set()
        """What it has waited for long enough, or had no room to: it will not again."""
        self.seconds = 0.0
        """Of all waits that are over."""
        self.holding = False
        """It waits for a target to get ready, or has just been let go to see whether it is."""
        self.head_sent = False
        self._since = 0.0
        self._until = NEVER
        self._ends: dict[tuple[Awaited, int], float] = {}
        """When each wait is over that was ever begun: whoever goes on and comes back does not begin anew."""
        self._speak_at = exchange.started + exchange.limits.silent_seconds if exchange.request.stream else NEVER

    @property
    def at(self) -> float:
        """When it must be woken."""
        return min(self._until, self._speak_at)

    # ---- a wait

    def too_soon(self, choice: tuple[Candidate, Endpoint] | None) -> Wait | None:
        """An endpoint may say to this request that it loads, and answer others: another of its models is in memory.
        Then it seems ready at once. After its second look a request that holds looks again every `LOOK_SECONDS`."""
        if choice is None or not self.holding:
            return None
        exchange = self._exchange
        target, endpoint = choice[0].target, choice[1]
        wait = Wait(Awaited.WARMTH, target.rank, (target.backend,))
        if (wait.awaited, wait.rank) in self.over:
            return None
        now = exchange.clock()
        looks = sum(t.endpoint.key == endpoint.key and t.judged.verdict is Verdict.LOADING for t in exchange.tried)
        late = now >= self._ends.get((wait.awaited, wait.rank), NEVER)
        return wait if looks > 0 and (late or looks >= 2 + (now - exchange.started) / LOOK_SECONDS) else None

    def begin(
        self, wait: Wait | None, ordering: Ordering, choice: tuple[Candidate, Endpoint] | None, now: float
    ) -> bool:
        """Waits for what is worth it instead of `choice`; False when there is no room anywhere."""
        exchange = self._exchange
        while wait is not None:
            end = self._ends.get((wait.awaited, wait.rank), NEVER)
            if end > now and self._join(wait):
                self.wait = wait
                self._until = self._ends.setdefault((wait.awaited, wait.rank), now + self._patience(wait))
                self._since = exchange.mark = now
                exchange.reschedule()
                return True
            self._spend(wait, "Full" if end > now else "TimedOut")
            wait = exchange.worth_waiting(ordering, choice)
        return False

    def _patience(self, wait: Wait) -> float:
        hold = self._exchange.route.hold
        if wait.awaited is Awaited.WARMTH and hold is not None:
            return hold.timeout
        return max(b.capacity.queue_timeout for b in wait.backends if b.capacity is not None)

    def _join(self, wait: Wait) -> bool:
        exchange = self._exchange
        state = exchange.state
        if wait.awaited is Awaited.SLOT:
            return state.waiting.join(self, exchange.client.consumer(), wait.backends)
        hold = exchange.route.hold
        assert hold is not None
        if not state.held.join(self, exchange.route.name, hold.most, first=self.holding):
            return False
        exchange.path.watch_held()
        self.holding = True
        return True

    def end(self, outcome: str, now: float) -> None:
        """The wait is over. `Served`, `TimedOut` or `Left`."""
        wait = self.wait
        if wait is None:
            return
        exchange = self._exchange
        state = exchange.state
        self.wait = None
        self._until = NEVER
        self.seconds += now - self._since
        exchange.awake()
        served = outcome == "Served"
        if wait.awaited is Awaited.WARMTH:
            state.held.leave(self)
        else:
            state.waiting.leave(self, served=served)
        if not served:
            self._spend(wait, outcome)
        elif wait.awaited is Awaited.SLOT:
            self._tell(wait, outcome)  # of warmth it is told when it was true: `answered`

    def answered(self) -> None:
        """Content came: whatever it held for was worth it."""
        self._speak_at = NEVER
        if self.holding:
            self.holding = False
            self._exchange.state.meter.waited(self._exchange.route.name, Awaited.WARMTH.value, "Served")

    def _spend(self, wait: Wait, outcome: str) -> None:
        self.over.add((wait.awaited, wait.rank))
        if wait.awaited is Awaited.WARMTH:
            self.holding = False
        self._tell(wait, outcome)

    def _tell(self, wait: Wait, outcome: str) -> None:
        self._exchange.state.meter.waited(self._exchange.route.name, wait.awaited.value, outcome)

    # ---- what the rooms ask (`Waiter`)

    def awaits(self) -> tuple[Backend, ...]:
        return self.wait.backends if self.wait is not None else ()

    def go(self) -> bool:
        exchange = self._exchange
        now = exchange.state.clock()
        ordering, choice = exchange.choose(now)
        wait = exchange.worth_waiting(ordering, choice)
        present = self.wait
        if wait is not None and present is not None and (wait.awaited, wait.rank) == (present.awaited, present.rank):
            return False
        self.end("Served", now)
        if wait is None:
            exchange.ask(ordering, choice, now)
        else:
            exchange.next()
        return True

    def cold(self) -> bool:
        exchange = self._exchange
        exchange.renew()
        wait = exchange.worth_waiting(*exchange.choose(exchange.state.clock()))
        return wait is not None and wait.awaited is Awaited.WARMTH

    def warm(self) -> None:
        self.end("Served", self._exchange.state.clock())
        self._exchange.renew()
        self._exchange.next()

    # ---- time

    def on_time(self, now: float) -> None:
        """`at` is over."""
        if now >= self._speak_at:
            self._speak()
            self._speak_at = now + self._exchange.limits.silent_seconds
        if self.wait is not None and now >= self._until:
            self.end("TimedOut", now)
            self._exchange.next()

    def _speak(self) -> None:
        exchange = self._exchange
        if not self.head_sent:
            self.head_sent = True
            exchange.client.begin(replies.EVENTS, b"x-request-id: %b\r\n" % exchange.id, exchange.keep_alive)
        exchange.client.write(replies.comment(f"waiting for {self._what()}"))

    def _what(self) -> str:
        wait = self.wait
        if wait is None:
            return "the first content"
        names = " or ".join(b.name for b in wait.backends)
        return f"a free slot of {names}" if wait.awaited is Awaited.SLOT else f"{names} to get ready"


def counted(tried: list[Tried], waiting: Waiting | None) -> list[Tried]:
    """The attempts that count. While a request holds for a target, one that found it loading was only a look; after
    that its looks at one endpoint are one attempt: they must not use up those that others could answer."""
    if waiting is None:
        return tried
    looked: set[tuple[int, str]] = set()
    found = []
    for t in tried:
        if t.judged.verdict is Verdict.LOADING:
            key = (t.target.index, t.endpoint.key)
            held = waiting.holding and (Awaited.WARMTH, t.target.rank) not in waiting.over
            if held or key in looked:
                continue
            looked.add(key)
        found.append(t)
    return found
