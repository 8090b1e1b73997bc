"""One request from its arrival to the last byte of its answer: attempts, of which one is relayed.

Decided here: the order of steps. Not here: who is asked next (`domain/attempts.py`), how an attempt goes
(`attempt.py`), what the client gets when nobody answered (`giving_up.py`), sockets (`front/server.py`,
`upstream/connection.py`).

Invariants: every exchange finishes exactly once (`finish`); after `commit` no attempt is begun, and none but the one
that committed is running.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pointsman.dialects.features import RequestFeatures
from pointsman.dialects.operation import Operation
from pointsman.dialects.request import ChatRequest
from pointsman.dialects.usage import Usage
from pointsman.domain.attempts import Tried, blameless, left_behind, next_attempt
from pointsman.domain.candidates import Candidate, Ordering, Place, order
from pointsman.domain.failure import fault
from pointsman.domain.features import PLAIN
from pointsman.domain.hedging import allowance, beside
from pointsman.domain.table import Endpoint, Target
from pointsman.domain.verdict import SUCCESS, Judgement, Verdict, Why
from pointsman.domain.waiting import Awaited, Wait, wanted, worth_waiting
from pointsman.gateway.insight.record import RequestRecord
from pointsman.gateway.relay import replies
from pointsman.gateway.relay.answers import Refusal
from pointsman.gateway.relay.attempt import NEVER, Attempt
from pointsman.gateway.relay.client import Client, Served
from pointsman.gateway.relay.giving_up import give_up, pass_refusal
from pointsman.gateway.relay.timing import timing
from pointsman.gateway.relay.waiting import Waiting, counted
from pointsman.gateway.upstream.roster import Entry, Lane

if TYPE_CHECKING:
    from pointsman.gateway.relay.datapath import DataPath

_GONE: Final = 499
_CLIENT_GONE: Final = fault(Why.CLIENT_GONE)
_TOTAL: Final = fault(Why.TOTAL_TIMEOUT)
_SLOW: Final = fault(Why.SLOW_FIRST_TOKEN)
_OUTRUN: Final = fault(Why.OUTRUN)
_NOBODY: Final = Ordering((), ())
_NOTHING: Final[frozenset[tuple[Awaited, int]]] = frozenset()


class Exchange(Served):
    __slots__ = (
        "_committed", "_done", "_entry", "_fallback", "_features", "_headers", "_overhead_us",
        "_roster", "_waited", "client", "clock", "empty", "hedge_at", "id", "keep_alive", "last", "limits",
        "mark", "operation", "path", "paused", "request", "route", "running", "started", "state", "status", "total_at",
        "trace", "tried", "unfit", "waiting",
    )  # fmt: skip

    def __init__(
        self, path: DataPath, client: Client, operation: Operation, request: ChatRequest, entry: Entry,
        headers: dict[bytes, bytes], request_id: bytes, trace: bytes, fallback: bool, keep_alive: bool, started: float,
    ) -> None:  # fmt: skip
        super().__init__()
        self.path = path
        self.state = path.state
        self.clock = path.clock
        self.limits = path.limits
        self.client = client
        self.operation = operation
        self.request = request
        self.route = route = entry.route
        self.id = request_id
        self.trace = trace
        """Header lines of the request's trace, each with its line end."""
        self.mark = started
        """The moment of what is going on: when we were last woken, or began to wait."""
        self.total_at = started + route.timeouts.total
        self.tried: list[Tried] = []
        self.running: list[Attempt] = []
        """Attempts that are not over. One, but for a moment or a hedge."""
        self.paused = False
        """The client does not take what it is sent."""
        self._headers = headers
        self._features: RequestFeatures | None = None
        self._roster = path.roster
        self._entry = entry
        self._fallback = fallback
        self.keep_alive = keep_alive
        self.started = started
        self._waited = 0.0
        """Seconds spent waiting for backends, which are not our overhead."""
        self.last: Attempt | None = None
        """Of all attempts, the last that was begun; in the end the one whose answer the client got."""
        self.unfit: tuple[Refusal, Attempt] | None = None
        """The first refusal that was not the caller's fault, and whose."""
        self.empty: Refusal | None = None
        self._committed = False
        self._done = False
        self.status = 200
        self._overhead_us = 0
        self.hedge_at = NEVER
        """When another target is asked beside the one that is slow to begin."""
        self.waiting: Waiting | None = None
        """Of a request that waits for something, or did."""

    # ---- attempts

    def start(self) -> None:
        if self.request.care is not None or not (self.operation.wide or self.path.learnt.unknown.none):
            self.next()
            return
        # What `order` would put first, without the list.
        lane = self._entry.first
        if lane is None:
            lane = self._entry.choose(self.features(), self.started)
        if lane is not None and lane.machine.clear:
            self._attempt(lane, Place.PRIORITY, self.started)
        else:
            self.next()

    def features(self) -> RequestFeatures:
        """What routing may ask of the request; worked out when it asks."""
        features = self._features
        if features is None:
            features = self._features = RequestFeatures(self.request, self._headers, self.id, self.operation.needs)
        return features

    def next(self) -> None:
        now = self.clock()
        ordering, choice = self.choose(now)
        if (ordering.excluded or self.waiting is not None) and now < self.total_at:
            wait = self.worth_waiting(ordering, choice)
            self._want(ordering, choice, wait, now)
            if wait is not None:
                waiting = self.waiting
                if waiting is None:
                    waiting = self.waiting = Waiting(self)
                if waiting.begin(wait, ordering, choice, now):
                    return
                ordering, choice = self.choose(now)  # whom it has looked at in vain counts now
                self._want(ordering, choice, None, now)
        self.ask(ordering, choice, now)

    def choose(self, now: float) -> tuple[Ordering, tuple[Candidate, Endpoint] | None]:
        ordering = self._ordering(now)
        tried = counted(self.tried, self.waiting)
        choice = next_attempt(self.route, ordering, tried, fallback=self._fallback, once=self.once, acts=self._acts())
        return ordering, choice

    def _acts(self) -> bool:
        """A backend that began with it may have done something."""
        care = self.request.care
        return care is not None and care.acts

    def worth_waiting(self, ordering: Ordering, choice: tuple[Candidate, Endpoint] | None) -> Wait | None:
        """What the request should wait for rather than ask `choice`."""
        waiting = self.waiting
        over = waiting.over if waiting is not None else _NOTHING
        tried = counted(self.tried, waiting)
        wait = worth_waiting(
            self.route, ordering, choice, tried, over, fallback=self._fallback, once=self.once, acts=self._acts()
        )
        return wait if wait is not None or waiting is None else waiting.too_soon(choice)

    def _want(
        self, ordering: Ordering, choice: tuple[Candidate, Endpoint] | None, wait: Wait | None, now: float
    ) -> None:
        for backend in wanted(ordering, choice, wait):
            self.state.want(backend, now)

    def renew(self) -> None:
        """Goes on with the table of now: a target that got ready may be ready in that only. For a request that has not
        been asked of anybody but those that were loading."""
        entry = self.path.roster.entry(self.request.model)
        if entry is not None and entry.route is not self.route:
            self._roster = self.path.roster
            self._entry = entry
            self.route = entry.route
            self.tried.clear()

    def ask(self, ordering: Ordering, choice: tuple[Candidate, Endpoint] | None, now: float) -> None:
        if choice is None or now >= self.total_at:
            give_up(self, ordering, now)
            return
        candidate, endpoint = choice
        self._tell_fallback(ordering, candidate.target)
        self._attempt(self._roster.lane(candidate.target, endpoint), candidate.place, now)

    def _ordering(self, now: float) -> Ordering:
        features = self.features() if self.request.body else PLAIN  # whoever had it was the last
        ordering = order(self.route, self.state.health, now, features, fallback=self._fallback)
        return self.path.learnt.narrow(ordering, self.operation, self.request, now)

    def _attempt(self, lane: Lane, place: Place, now: float, beside: bool = False) -> None:
        self.last = attempt = Attempt(self, lane, place, now, beside)
        self.running.append(attempt)
        self.mark = now
        attempt.start()

    def _tell_fallback(self, ordering: Ordering, target: Target) -> None:
        left = left_behind(ordering, self.tried, target)
        if left is not None:
            self.state.fell_back(self.route.name, left[0], target.backend.name, left[1], self.name())

    def _hedge(self, now: float) -> None:
        """Asks another target beside the one that is slow to begin, if there is one, and a spare slot, and not too many
        do so at once."""
        hedge = self.route.hedge
        self.hedge_at = NEVER
        if hedge is None or self._committed or len(self.running) != 1 or self._acts():
            return
        self.hedge_at = now + hedge.after
        health = self.state.health
        if self.path.hedges >= allowance(health.all_in_flight() - self.path.hedges):
            return
        first = self.running[0]
        slow = Tried(first.lane.target, first.lane.endpoint, first.place, _SLOW, (now - first.begun) * 1000)
        ordering = self._ordering(now)
        tried = counted(self.tried, self.waiting)
        choice = beside(self.route, ordering, tried, slow, fallback=self._fallback)
        if choice is not None:
            self.hedge_at = NEVER
            self.awake()
            self._attempt(self._roster.lane(choice[0].target, choice[1]), choice[0].place, now, beside=True)

    def _outrun(self, winner: Attempt) -> None:
        """The content of `winner` came first: the others end."""
        for attempt in self.running[:]:
            if attempt is not winner:
                attempt.stop(_SLOW if winner.beside else _OUTRUN, self.mark)

    # ---- what attempts tell

    def awake(self) -> None:
        """Something happened that we waited for."""
        now = self.clock()
        self._waited += now - self.mark
        self.mark = now

    def deliver(self, attempt: Attempt, content_type: bytes, body: bytes, now: float) -> None:
        """A whole, good answer."""
        if self.waiting is not None:
            self.waiting.answered()
        extra = self.provenance(attempt, now)
        self.client.reply(replies.whole(200, content_type, extra, body, self.alive()))

    def commit(self, attempt: Attempt, content_type: bytes) -> None:
        """The head of the answer goes out."""
        self._committed = True
        self.hedge_at = NEVER
        if len(self.running) > 1:
            self._outrun(attempt)
        if attempt.beside:
            self._tell_fallback(_NOBODY, attempt.lane.target)
        self.forget_body()
        extra = self.provenance(attempt, self.clock())
        waiting = self.waiting
        if waiting is None:
            self.client.begin(content_type, extra, self.keep_alive)
            return
        waiting.answered()
        if waiting.head_sent:
            self.client.write(replies.as_comments(extra))
        else:
            self.client.begin(content_type, extra, self.keep_alive)

    def forget_body(self) -> None:
        """Nobody else will be asked."""
        self.request.body = b""
        self._features = None  # it keeps pieces of it
        self.client.release_body()

    def lost(self, attempt: Attempt, judged: Judgement, answer: Refusal | None) -> None:
        """An attempt ended before anything was committed; `answer` is what its backend said."""
        if judged.why is Why.UNKNOWN_OPERATION and not self.operation.wide:
            self.path.learnt.unknown.add(attempt.lane.target.backend.name, self.operation.name, self.mark)
        if answer is not None:
            if judged.why is Why.EMPTY:
                self.empty = answer
            elif judged.verdict is Verdict.UNFIT and self.unfit is None:
                self.unfit = answer, attempt
        if judged.verdict is Verdict.CALLER and answer is not None:
            self._stop_all(_OUTRUN)
            pass_refusal(self, attempt, answer, judged)
        elif not self.running:
            self.next()

    # ---- the end

    def provenance(self, attempt: Attempt, now: float) -> bytes:
        self.last = attempt
        self._overhead_us = overhead = int((now - self.started - self._waited) * 1e6)
        notes = b"" if attempt.place is not Place.LEAST_BAD and not self.once else self.notes(attempt.place)
        lane = attempt.lane
        ms = (now - attempt.begun) * 1000
        if not self.tried:
            whole_ms = int(ms)
            return b"%b%d\r\nx-pointsman-attempts: %d\r\nx-pointsman-overhead-us: %d\r\nx-request-id: %b\r\n%b" % (
                lane.served_at_once, whole_ms, len(self.running), overhead, self.id, notes,
            )  # fmt: skip
        return b"%b%bx-pointsman-attempts: %d\r\nx-pointsman-overhead-us: %d\r\nx-request-id: %b\r\n%b" % (
            lane.served_by, timing(self.tried, "" if attempt.over else lane.target.backend.name, ms),
            len(self.tried) + len(self.running), overhead, self.id, notes,
        )  # fmt: skip

    def notes(self, place: Place = Place.PRIORITY) -> bytes:
        """Header lines of a request that did not go the usual way."""
        notes = b"x-pointsman-trial: LeastBad\r\n" if place is Place.LEAST_BAD else b""
        return notes + b"x-pointsman-replay: none\r\n" if self.once else notes

    def alive(self) -> bool:
        return self.keep_alive and not self.path.leaving

    def name(self) -> str:
        return self.id.decode("latin-1")

    def finish(self, judged: Judgement, usage: Usage | None, now: float) -> None:
        self._done = True
        tried = self.tried
        if len(tried) > 1:
            self.path.health.withdraw([e.key for e in blameless(tried)], self.name(), now)
        good = judged is SUCCESS
        last = self.last
        name, model = self._entry.name, self.request.model
        self.path.finished(
            RequestRecord(
                self.name(), self.route.name, name, self.status, self.request.stream,
                (now - self.started) * 1000, len(tried) + good, last.lane.target.backend.name if last else "",
                "Success" if good else judged.verdict.value, "Answered" if good else judged.why.value,
                last.first_token_ms if last else None, self._overhead_us,
                usage.prompt_tokens if usage else None, usage.completion_tokens if usage else None,
                self.waiting.seconds * 1000 if self.waiting is not None else None, "" if model == name else model,
                self.operation.name,
            ),
        )  # fmt: skip
        # The attempts know their exchange: without this only the garbage collector would end both.
        self.last = None
        self.unfit = None
        self.waiting = None
        self.client.finished(now)

    # ---- what the client and the clock do

    def client_gone(self) -> None:
        if not self._done:
            self.awake()
            if self.waiting is not None:
                self.waiting.end("Left", self.mark)
            self._stop_all(_CLIENT_GONE)
            self.status = _GONE
            if not self._committed:
                self.last = None
            self.finish(_CLIENT_GONE, None, self.mark)

    def client_slow(self, slow: bool) -> None:
        """The client does not take what it is sent: nor do we, from its backend."""
        self.paused = slow
        for attempt in self.running:
            attempt.pause(slow)
            if not slow:
                attempt.client_reads_again(self.clock())
        self.reschedule()

    def reschedule(self) -> None:
        """Sets when we must be woken: at the end of the total time, or of an attempt's patience."""
        at = self.total_at
        if not self.paused:
            for attempt in self.running:
                if attempt.phase_at < at:
                    at = attempt.phase_at
            if self.hedge_at < at:
                at = self.hedge_at
            if self.waiting is not None and self.waiting.at < at:
                at = self.waiting.at
        self.client.set_deadline(at)

    def on_deadline(self, now: float) -> None:
        if now >= self.total_at:
            self.awake()
            self.timed_out(_TOTAL)
            return
        if not self.paused:
            if self.waiting is not None and self.waiting.at <= now:
                self.waiting.on_time(now)
            if self.hedge_at <= now:
                self._hedge(now)
            for attempt in self.running[:]:
                if attempt.phase_at <= now and not attempt.over:
                    attempt.out_of_patience()
        if not self._done:
            self.reschedule()

    def timed_out(self, judged: Judgement) -> None:
        """No time is left for this answer."""
        if not self._committed:
            if self.waiting is not None:
                self.waiting.end("TimedOut", self.mark)
            self._stop_all(judged)
            self.next()
        elif self.request.stream:
            self.running[0].conclude_late(judged)
        else:
            self.running[0].cut_short(judged)

    def _stop_all(self, judged: Judgement) -> None:
        for attempt in self.running[:]:
            attempt.stop(judged, self.mark)
