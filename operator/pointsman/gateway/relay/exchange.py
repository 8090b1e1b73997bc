"""One request from its arrival to the last byte of its answer: attempts in turn, one answer relayed.

Decided here: the order of steps. Not here: who is asked next (`domain/attempts.py`), what an answer is worth
(`answers.py`, `domain/judging.py`), sockets (`front/server.py`, `upstream/connection.py`).

Invariants: at most one attempt at a time; every attempt that began ends exactly once (`_over`); every exchange finishes
exactly once (`_finish`); after `commit` no other answer is ever begun.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pointsman.dialects.openai import USAGE_FIELD, ChatRequest, compose
from pointsman.dialects.openai_answer import Usage
from pointsman.domain.attempts import Tried, all_empty, blameless, left_behind, next_attempt, surrender
from pointsman.domain.candidates import Ordering, Place, order
from pointsman.domain.failure import fault
from pointsman.domain.verdict import SUCCESS, Judgement, Verdict, Why
from pointsman.gateway.insight.events import RequestRecord
from pointsman.gateway.relay import replies
from pointsman.gateway.relay.answers import (
    Answer,
    Refusal,
    StreamAnswer,
    error_frame,
    is_plain_json,
    judge_json,
    open_answer,
)
from pointsman.gateway.upstream.connection import UpstreamConnection
from pointsman.gateway.upstream.dialer import DialFailed
from pointsman.gateway.upstream.roster import Entry, Lane

if TYPE_CHECKING:
    from pointsman.gateway.front.server import ClientConnection
    from pointsman.gateway.relay.datapath import DataPath

_GONE = 499
_CLIENT_GONE = fault(Why.CLIENT_GONE)
_TOTAL = fault(Why.TOTAL_TIMEOUT)
_NOBODY_ASKED = Judgement(Verdict.FAILURE, Why.UNREACHABLE)
_NO_FIELDS: tuple[str, ...] = ()
_USAGE_FIELDS = (USAGE_FIELD,)


class Exchange:
    # What most requests never change stands on the class: making an exchange is on the hot path.
    added = _NO_FIELDS
    """Fields that we put into the request of the present attempt."""
    _lane: Lane
    """Who is or was asked last."""
    _place = Place.PRIORITY
    _sent_at = 0.0
    _progress_at = 0.0
    _phase_at = float("inf")
    _first_token_ms: float | None = None
    _connection: UpstreamConnection | None = None
    _dialing: asyncio.Task[None] | None = None
    _answer: Answer | None = None
    _unfit: tuple[Refusal, Lane] | None = None
    """The first refusal that was not the caller's fault, and whose."""
    _empty: Refusal | None = None
    _trying = False
    """An attempt has begun and is not over."""
    _trial = False
    _redialed = False
    _committed = False
    _ending = False
    _paused = False
    _done = False
    _status = 200
    _overhead_us = 0

    def __init__(
        self, path: DataPath, client: ClientConnection, chat: ChatRequest, entry: Entry, request_id: bytes,
        trace: bytes, *, fallback: bool, keep_alive: bool, started: float,
    ) -> None:  # fmt: skip
        self._path = path
        self._state = path.state
        self._roster = path.roster
        self._client = client
        self._chat = chat
        self._entry = entry
        self._route = route = entry.route
        self._id = request_id
        self._trace = trace
        self._fallback = fallback
        self._keep_alive = keep_alive
        self._started = self._mark = self._begun = started
        self._total_at = started + route.timeouts.total
        self._waited = 0.0
        """Seconds spent waiting for backends, which are not our overhead."""
        self._tried: list[Tried] = []
        self.limits = path.limits
        self.stream = chat.stream
        self.has_stop = chat.has_stop
        self.hide_usage = not chat.wants_usage

    # ---- attempts

    def start(self) -> None:
        lane = self._entry.first
        if lane is not None and lane.machine.clear:
            # What `order` would put first, without the list.
            self._attempt(lane, Place.PRIORITY, self._started)
        else:
            self._next()

    def _next(self) -> None:
        state = self._state
        now = state.clock()
        ordering = order(self._route, state.health, now, fallback=self._fallback)
        choice = next_attempt(self._route, ordering, self._tried, fallback=self._fallback)
        if choice is None or now >= self._total_at:
            self._give_up(ordering, now)
            return
        candidate, endpoint = choice
        left = left_behind(ordering, self._tried, candidate.target)
        if left is not None:
            state.fell_back(self._route.name, left[0], candidate.target.backend.name, left[1], self._name())
        self._attempt(self._roster.lane(candidate.target, endpoint), candidate.place, now)

    def _attempt(self, lane: Lane, place: Place, now: float) -> None:
        self._lane = lane
        self._place = place
        self._trying = True
        self._redialed = False
        self._begun = now
        self._trial = lane.machine.begin()
        connection = lane.pool.take(now)
        if connection is not None:
            self._send(connection)
        else:
            self._dial()

    def _dial(self) -> None:
        self._mark = self._state.clock()
        self._phase(self._total_at)
        self._dialing = asyncio.get_running_loop().create_task(self._dialed())

    async def _dialed(self) -> None:
        timeout = min(self._route.timeouts.connect, max(0.0, self._total_at - self._state.clock()))
        try:
            connection = await self._lane.pool.dial(timeout)
        except DialFailed as e:
            self._dialing = None
            self._wait_over()
            self.failed(fault(e.why))
            return
        self._dialing = None
        self._wait_over()
        self._send(connection)

    def _send(self, connection: UpstreamConnection) -> None:
        self._connection = connection
        self._ending = False
        lane = self._lane
        chat = self._chat
        timeouts = self._route.timeouts
        if chat.stream:
            ask_usage = not chat.wants_usage and self._path.asks_usage(lane.target.backend)
            self.added = _USAGE_FIELDS if ask_usage else _NO_FIELDS
            body = compose(chat, lane.target.upstream_model, ask_usage=ask_usage)
            head = lane.pool.stream_head
            patience = timeouts.first_token
        else:
            body = compose(chat, lane.target.upstream_model, ask_usage=False)
            head = lane.pool.json_head
            patience = timeouts.answer
        connection.send(
            self,
            b"%bcontent-length: %d\r\nx-request-id: %b\r\n%b\r\n%b" % (head, len(body), self._id, self._trace, body),
        )
        self._sent_at = self._progress_at = self._mark = now = self._state.clock()
        self._phase_at = at = now + patience
        self._client.set_deadline(at if at < self._total_at else self._total_at)

    # ---- what the backend does

    def upstream_data(self, connection: UpstreamConnection) -> None:
        now = self._state.clock()
        self._waited += now - self._mark
        self._mark = now
        reader = connection.reader
        answer = self._answer
        if answer is None:
            if not reader.head_done:
                if reader.fault is not None:
                    self.failed(fault(reader.fault))
                return
            if reader.complete and not self.stream and is_plain_json(reader):
                # The usual: a whole answer in one piece.
                pieces = reader.pieces
                judge_json(self, pieces[0] if len(pieces) == 1 else b"".join(pieces), reader.headers[b"content-type"])
                return
            opened = open_answer(reader, self)
            if isinstance(opened, Judgement):
                self.failed(opened)
                return
            answer = self._answer = opened
        pieces = reader.pieces
        if pieces:
            reader.pieces = []
        if pieces or reader.complete:
            answer.feed(pieces, reader.complete)
        if reader.fault is not None and self._answer is answer and not self._done:
            answer.broken(fault(reader.fault))

    def upstream_lost(self, connection: UpstreamConnection) -> None:
        self._connection = None
        self._wait_over()
        if self._answer is not None:
            self._answer.broken(fault(Why.CUT))
        elif connection.reused and not connection.reader.touched and not self._redialed:
            # It was closed while it was idle; we noticed only now. The backend never saw the request.
            self._redialed = True
            self._dial()
        else:
            self.failed(fault(Why.CUT if connection.reader.touched else Why.RESET))

    def _wait_over(self) -> None:
        now = self._state.clock()
        self._waited += now - self._mark
        self._mark = now

    # ---- what the answer says (`relay.Relayed`)

    def unix(self) -> float:
        return self._state.unix(self._mark)

    def deliver(self, content_type: bytes, body: bytes, usage: Usage | None) -> None:
        self._first_token_ms = (self._mark - self._sent_at) * 1000
        now = self._state.clock()
        alive = self._keep_alive and not self._path.leaving
        self._client.reply(replies.whole(200, content_type, self._provenance(now), body, alive))
        self._over(SUCCESS, now)
        self._finish(SUCCESS, usage, now)

    def commit(self, content_type: bytes) -> None:
        self._committed = True
        self._first_token_ms = (self._mark - self._sent_at) * 1000
        self._chat.body = b""
        self._client.begin(content_type, self._provenance(self._state.clock()), self._keep_alive)

    def pass_on(self, data: bytes, progress: bool) -> None:
        if data:
            self._client.write(data)
        if progress:
            self._progress_at = self._lane.machine.advanced_at = now = self._mark
            if self._committed:
                self._phase(now + self._route.timeouts.idle)

    def ending(self) -> None:
        if not self._ending:
            self._ending = True
            self._phase(self._mark + self.limits.end_grace_seconds)

    def conclude(self, last: bytes, judged: Judgement, usage: Usage | None) -> None:
        self._client.end(last)
        now = self._state.clock()
        self._over(judged, now)
        self._finish(judged, usage, now)

    def cut_short(self, judged: Judgement) -> None:
        self._client.abort()
        self._over(judged, self._mark)
        self._finish(judged, None, self._mark)

    def failed(self, judged: Judgement, answer: Refusal | None = None) -> None:
        if judged.why is Why.ADDED_FIELD:
            self._path.no_usage(self._lane.target.backend)
            self._again()
            return
        if answer is not None:
            if judged.why is Why.EMPTY:
                self._empty = answer
            elif judged.verdict is Verdict.UNFIT and self._unfit is None:
                self._unfit = answer, self._lane
        self._over(judged, self._mark)
        if judged.verdict is Verdict.CALLER and answer is not None:
            self._pass_refusal(answer, judged)
        else:
            self._next()

    def _again(self) -> None:
        """The same request to the same endpoint, without the field that it did not know."""
        connection, self._connection = self._connection, None
        self._answer = None
        if connection is not None:
            connection.release(self._mark)
        pooled = self._lane.pool.take(self._mark)
        if pooled is not None:
            self._send(pooled)
        else:
            self._dial()

    def _over(self, judged: Judgement, now: float) -> None:
        """The attempt ends: its connection, its place in the health of its endpoint, its figures."""
        connection, self._connection = self._connection, None
        if connection is not None:
            if self._paused:
                connection.resume()
            if judged is SUCCESS or connection.reader.complete:
                connection.release(now)
            else:
                connection.close()
        self._answer = None
        self._trying = False
        lane = self._lane
        target = lane.target
        lane.machine.end(self._trial)
        ms = (now - self._begun) * 1000
        state = self._state
        if judged is SUCCESS:
            state.health.observe_success(lane.endpoint.key, target.upstream_model, self._first_token_ms, now)
            verdict, why = "Success", "Answered"
        else:
            self._tried.append(Tried(target, lane.endpoint, self._place, judged, ms))
            state.health.observe_answer(
                lane.endpoint.key, judged, model=target.upstream_model, request=self._name(), now=now,
                waited_since=self._progress_at, jitter=state.jitter(),
            )  # fmt: skip
            verdict, why = judged.verdict.value, judged.why.value
        state.meter.attempt_finished(self._route.name, target.backend.name, target.model, verdict, why, ms)

    # ---- the end

    def _give_up(self, ordering: Ordering, now: float) -> None:
        tried = self._tried
        if self._empty is not None and all_empty(tried):
            self._pass_refusal(self._empty, tried[-1].judged, b"x-pointsman-verdict: EmptyAnswer\r\n")
            return
        if self._unfit is not None and all(t.judged.verdict is Verdict.UNFIT for t in tried):
            answer, self._lane = self._unfit
            self._pass_refusal(answer, tried[0].judged)
            return
        given = surrender(self._chat.model, tried, ordering.excluded, now)
        self._status = given.status
        self._client.reply(replies.surrendered(given, len(tried), self._id, self._alive()))
        self._finish(tried[-1].judged if tried else _NOBODY_ASKED, None, now, served=False)

    def _pass_refusal(self, answer: Refusal, judged: Judgement, extra: bytes = b"") -> None:
        """What a backend said is what the client gets."""
        self._status = answer.status
        now = self._state.clock()
        extra = self._provenance(now) + extra
        self._client.reply(
            replies.whole(answer.status, answer.content_type or replies.JSON, extra, answer.body, self._alive())
        )
        self._finish(judged, None, now)

    def _provenance(self, now: float) -> bytes:
        self._overhead_us = overhead = int((now - self._started - self._waited) * 1e6)
        return b"%bx-pointsman-attempts: %d\r\nx-pointsman-overhead-us: %d\r\nx-request-id: %b\r\n%b" % (
            self._lane.served_by, len(self._tried) + self._trying, overhead, self._id,
            b"" if self._place is not Place.LEAST_BAD else b"x-pointsman-trial: LeastBad\r\n",
        )  # fmt: skip

    def _alive(self) -> bool:
        return self._keep_alive and not self._path.leaving

    def _name(self) -> str:
        return self._id.decode("latin-1")

    def _finish(self, judged: Judgement, usage: Usage | None, now: float, *, served: bool = True) -> None:
        self._done = True
        tried = self._tried
        if len(tried) > 1:
            self._state.health.withdraw([e.key for e in blameless(tried)], self._name(), now)
        good = judged is SUCCESS
        self._path.finished(
            RequestRecord(
                self._id.decode("latin-1"), self._route.name, self._chat.model, self._status, self.stream,
                (now - self._started) * 1000, len(tried) + good, self._lane.target.backend.name if served else "",
                "Success" if good else judged.verdict.value, "Answered" if good else judged.why.value,
                self._first_token_ms, self._overhead_us,
                usage.prompt_tokens if usage else None, usage.completion_tokens if usage else None,
            ),
        )  # fmt: skip
        self._client.finished(now)

    # ---- what the client and the clock do

    def client_gone(self) -> None:
        if not self._done:
            self._wait_over()
            self._stop(_CLIENT_GONE)
            self._status = _GONE
            self._finish(_CLIENT_GONE, None, self._mark, served=self._committed)

    def _stop(self, judged: Judgement) -> None:
        if self._dialing is not None:
            self._dialing.cancel()
            self._dialing = None
        self._over(judged, self._mark)

    def client_slow(self, slow: bool) -> None:
        """The client does not take what it is sent: nor do we, from its backend."""
        connection = self._connection
        self._paused = slow
        if connection is None:
            return
        if slow:
            connection.pause()
        else:
            connection.resume()
            if self._committed:
                self._phase(self._state.clock() + self._route.timeouts.idle)

    def _phase(self, at: float) -> None:
        self._phase_at = at
        self._client.set_deadline(at if at < self._total_at else self._total_at)

    def on_deadline(self, now: float) -> None:
        if now >= self._total_at:
            self._timed_out(_TOTAL)
        elif self._paused or now < self._phase_at:
            self._client.set_deadline(self._total_at if self._paused else min(self._phase_at, self._total_at))
        elif self._ending:
            assert isinstance(self._answer, StreamAnswer)
            self._wait_over()
            self._answer.complete()
        elif self._committed:
            self._timed_out(fault(Why.IDLE_TIMEOUT))
        else:
            self._timed_out(fault(Why.FIRST_TOKEN_TIMEOUT if self.stream else Why.ANSWER_TIMEOUT))

    def _timed_out(self, judged: Judgement) -> None:
        self._wait_over()
        if not self._committed:
            self._stop(judged)
            self._next()
        elif self.stream:
            self.conclude(error_frame(judged), judged, None)
        else:
            self.cut_short(judged)
