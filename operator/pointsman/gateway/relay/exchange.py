"""One request from its arrival to the last byte of its answer: attempts, of which one is relayed.

Decided here: the order of steps, and what the client gets when nobody answered. Not here: who is asked next
(`domain/attempts.py`), how an attempt goes (`attempt.py`), sockets (`front/server.py`, `upstream/connection.py`).

Invariants: every exchange finishes exactly once (`finish`); after `commit` no attempt is begun, and none but the one
that committed is running.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pointsman.dialects.features import RequestFeatures
from pointsman.dialects.operation import Operation
from pointsman.dialects.request import ChatRequest
from pointsman.dialects.usage import Usage
from pointsman.domain.attempts import Tried, all_empty, blameless, left_behind, next_attempt, surrender
from pointsman.domain.candidates import Ordering, Place, order
from pointsman.domain.confine import confined, without
from pointsman.domain.failure import fault
from pointsman.domain.verdict import SUCCESS, Judgement, Verdict, Why
from pointsman.gateway.insight.record import RequestRecord
from pointsman.gateway.relay import replies
from pointsman.gateway.relay.answers import Refusal
from pointsman.gateway.relay.attempt import Attempt
from pointsman.gateway.relay.client import Client
from pointsman.gateway.relay.timing import timing
from pointsman.gateway.upstream.roster import Entry, Lane

if TYPE_CHECKING:
    from pointsman.gateway.relay.datapath import DataPath

_GONE = 499
_CLIENT_GONE = fault(Why.CLIENT_GONE)
_TOTAL = fault(Why.TOTAL_TIMEOUT)
_NOBODY_ASKED = Judgement(Verdict.FAILURE, Why.UNREACHABLE)


class Exchange:
    __slots__ = (
        "_committed", "_done", "_empty", "_entry", "_fallback", "_features", "_headers", "_keep_alive", "_last",
        "_overhead_us", "_roster", "_started", "_status", "_unfit", "_waited", "client", "clock", "id", "limits",
        "mark", "operation", "path", "paused", "request", "route", "running", "state", "total_at", "trace", "tried",
    )  # fmt: skip

    def __init__(
        self, path: DataPath, client: Client, operation: Operation, request: ChatRequest, entry: Entry,
        headers: dict[bytes, bytes], request_id: bytes, trace: bytes, fallback: bool, keep_alive: bool, started: float,
    ) -> None:  # fmt: skip
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
        self._keep_alive = keep_alive
        self._started = started
        self._waited = 0.0
        """Seconds spent waiting for backends, which are not our overhead."""
        self._last: Attempt | None = None
        """Of all attempts, the last that was begun; in the end the one whose answer the client got."""
        self._unfit: tuple[Refusal, Attempt] | None = None
        """The first refusal that was not the caller's fault, and whose."""
        self._empty: Refusal | None = None
        self._committed = False
        self._done = False
        self._status = 200
        self._overhead_us = 0

    # ---- attempts

    def start(self) -> None:
        if self.request.care is not None or not (self.operation.wide or self.path.unknown_operations.none):
            self._next()
            return
        # What `order` would put first, without the list.
        lane = self._entry.first
        if lane is None:
            lane = self._entry.choose(self.features(), self._started)
        if lane is not None and lane.machine.clear:
            self._attempt(lane, Place.PRIORITY, self._started)
        else:
            self._next()

    def features(self) -> RequestFeatures:
        """What routing may ask of the request; worked out when it asks."""
        features = self._features
        if features is None:
            features = self._features = RequestFeatures(self.request, self._headers, self.id, self.operation.needs)
        return features

    def _next(self) -> None:
        state = self.state
        now = state.clock()
        ordering = self._ordering(now)
        care = self.request.care
        choice = next_attempt(
            self.route, ordering, self.tried, fallback=self._fallback, acts=care is not None and care.acts
        )
        if choice is None or now >= self.total_at:
            self._give_up(ordering, now)
            return
        candidate, endpoint = choice
        left = left_behind(ordering, self.tried, candidate.target)
        if left is not None:
            state.fell_back(self.route.name, left[0], candidate.target.backend.name, left[1], self.name())
        self._attempt(self._roster.lane(candidate.target, endpoint), candidate.place, now)

    def _ordering(self, now: float) -> Ordering:
        ordering = order(self.route, self.state.health, now, self.features(), fallback=self._fallback)
        if self.operation.wide:
            return ordering
        path = self.path
        ordering = without(ordering, path.unknown_operations.backends(self.operation.name, now))
        care = self.request.care
        if care is not None and (care.previous or care.conversation):
            place = path.kept.place(care.previous or care.conversation)
            if place is not None:
                ordering = confined(ordering, place)
        return ordering

    def _attempt(self, lane: Lane, place: Place, now: float) -> None:
        self._last = attempt = Attempt(self, lane, place, now)
        self.running.append(attempt)
        self.mark = now
        attempt.start()

    # ---- what attempts tell

    def awake(self) -> None:
        """Something happened that we waited for."""
        now = self.clock()
        self._waited += now - self.mark
        self.mark = now

    def deliver(self, attempt: Attempt, content_type: bytes, body: bytes) -> None:
        """A whole, good answer."""
        extra = self._provenance(attempt, self.clock())
        self.client.reply(replies.whole(200, content_type, extra, body, self._alive()))

    def commit(self, attempt: Attempt, content_type: bytes) -> None:
        """The head of the answer goes out."""
        self._committed = True
        self.request.body = b""
        self.client.begin(content_type, self._provenance(attempt, self.clock()), self._keep_alive)

    def lost(self, attempt: Attempt, judged: Judgement, answer: Refusal | None) -> None:
        """An attempt ended before anything was committed; `answer` is what its backend said."""
        if judged.why is Why.UNKNOWN_OPERATION and not self.operation.wide:
            self.path.unknown_operations.add(attempt.lane.target.backend.name, self.operation.name, self.mark)
        if answer is not None:
            if judged.why is Why.EMPTY:
                self._empty = answer
            elif judged.verdict is Verdict.UNFIT and self._unfit is None:
                self._unfit = answer, attempt
        if judged.verdict is Verdict.CALLER and answer is not None:
            self._pass_refusal(attempt, answer, judged)
        else:
            self._next()

    # ---- the end

    def _give_up(self, ordering: Ordering, now: float) -> None:
        tried = self.tried
        if self._empty is not None and self._last is not None and all_empty(tried):
            self._pass_refusal(self._last, self._empty, tried[-1].judged, b"x-pointsman-verdict: EmptyAnswer\r\n")
            return
        if self._unfit is not None and all(t.judged.verdict is Verdict.UNFIT for t in tried):
            answer, attempt = self._unfit
            self._pass_refusal(attempt, answer, tried[0].judged)
            return
        given = surrender(self.request.model, tried, ordering.excluded, now)
        self._status = given.status
        self._last = None
        self.client.reply(replies.surrendered(given, tried, self.id, self._alive()))
        self.finish(tried[-1].judged if tried else _NOBODY_ASKED, None, now)

    def _pass_refusal(self, attempt: Attempt, answer: Refusal, judged: Judgement, extra: bytes = b"") -> None:
        """What a backend said is what the client gets."""
        self._status = answer.status
        now = self.clock()
        extra = self._provenance(attempt, now) + extra
        self.client.reply(
            replies.whole(answer.status, answer.content_type or replies.JSON, extra, answer.body, self._alive())
        )
        self.finish(judged, None, now)

    def _provenance(self, attempt: Attempt, now: float) -> bytes:
        self._last = attempt
        self._overhead_us = overhead = int((now - self._started - self._waited) * 1e6)
        trial = b"" if attempt.place is not Place.LEAST_BAD else b"x-pointsman-trial: LeastBad\r\n"
        lane = attempt.lane
        ms = (now - attempt.begun) * 1000
        if not self.tried:
            return b"%b%d\r\nx-pointsman-attempts: %d\r\nx-pointsman-overhead-us: %d\r\nx-request-id: %b\r\n%b" % (
                lane.served_at_once, ms, len(self.running), overhead, self.id, trial,
            )  # fmt: skip
        return b"%b%bx-pointsman-attempts: %d\r\nx-pointsman-overhead-us: %d\r\nx-request-id: %b\r\n%b" % (
            lane.served_by, timing(self.tried, "" if attempt.over else lane.target.backend.name, ms),
            len(self.tried) + len(self.running), overhead, self.id, trial,
        )  # fmt: skip

    def _alive(self) -> bool:
        return self._keep_alive and not self.path.leaving

    def name(self) -> str:
        return self.id.decode("latin-1")

    def finish(self, judged: Judgement, usage: Usage | None, now: float) -> None:
        self._done = True
        tried = self.tried
        if len(tried) > 1:
            self.path.health.withdraw([e.key for e in blameless(tried)], self.name(), now)
        good = judged is SUCCESS
        last = self._last
        name, model = self._entry.name, self.request.model
        self.path.finished(
            RequestRecord(
                self.name(), self.route.name, name, self._status, self.request.stream,
                (now - self._started) * 1000, len(tried) + good, last.lane.target.backend.name if last else "",
                "Success" if good else judged.verdict.value, "Answered" if good else judged.why.value,
                last.first_token_ms if last else None, self._overhead_us,
                usage.prompt_tokens if usage else None, usage.completion_tokens if usage else None,
                "", None, "" if model == name else model,
            ),
        )  # fmt: skip
        # The attempts know their exchange: without this only the garbage collector would end both.
        self._last = None
        self._unfit = None
        self.client.finished(now)

    # ---- what the client and the clock do

    def client_gone(self) -> None:
        if not self._done:
            self.awake()
            self._stop_all(_CLIENT_GONE)
            self._status = _GONE
            if not self._committed:
                self._last = None
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
        self.client.set_deadline(at)

    def on_deadline(self, now: float) -> None:
        if now >= self.total_at:
            self.awake()
            self.timed_out(_TOTAL)
            return
        if not self.paused:
            for attempt in self.running[:]:
                if attempt.phase_at <= now and not attempt.over:
                    attempt.out_of_patience()
        if not self._done:
            self.reschedule()

    def timed_out(self, judged: Judgement) -> None:
        """No time is left for this answer."""
        if not self._committed:
            self._stop_all(judged)
            self._next()
        elif self.request.stream:
            self.running[0].conclude_late(judged)
        else:
            self.running[0].cut_short(judged)

    def _stop_all(self, judged: Judgement) -> None:
        for attempt in self.running[:]:
            attempt.stop(judged, self.mark)
