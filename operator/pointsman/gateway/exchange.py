"""One request from its arrival to the last byte of its answer: attempts in turn, one answer relayed.

Decided here: the order of steps. Not here: who is asked next (`domain/attempts.py`), what an answer is worth
(`relay.py`, `domain/judging.py`), sockets (`server.py`, `upstream.py`).

Invariants: at most one attempt at a time; every attempt that began ends exactly once (`_over`); every exchange finishes
exactly once (`_finish`); after `commit` no other answer is ever begun.
"""

from __future__ import annotations

import asyncio
from math import ceil
from typing import TYPE_CHECKING

from pointsman.dialects.openai import USAGE_FIELD, ChatRequest, compose, error_body
from pointsman.dialects.openai_answer import Usage
from pointsman.domain.attempts import Tried, all_empty, blameless, next_attempt, surrender
from pointsman.domain.candidates import Ordering, Place, first_choice, order
from pointsman.domain.failure import fault
from pointsman.domain.table import Endpoint, Route, Target
from pointsman.domain.verdict import SUCCESS, Judgement, Verdict, Why
from pointsman.gateway import replies
from pointsman.gateway.dialer import DialFailed
from pointsman.gateway.events import RequestRecord
from pointsman.gateway.relay import Answer, Refusal, StreamAnswer, error_frame, open_answer
from pointsman.gateway.upstream import UpstreamConnection

if TYPE_CHECKING:
    from pointsman.gateway.datapath import DataPath
    from pointsman.gateway.server import ClientConnection

_GONE = 499
_CLIENT_GONE = fault(Why.CLIENT_GONE)
_TOTAL = fault(Why.TOTAL_TIMEOUT)


class Exchange:
    __slots__ = (
        "_answer", "_begun", "_chat", "_client", "_committed", "_connection", "_dialing", "_done", "_empty",
        "_ending", "_endpoint", "_fallback", "_first_token_ms", "_id", "_keep_alive", "_machine", "_mark",
        "_overhead_us", "_path", "_paused", "_phase_at", "_place", "_pool", "_progress_at", "_redialed",
        "_route", "_sent_at", "_started", "_status", "_target", "_total_at", "_trace", "_trial", "_tried",
        "_trying", "_unfit", "_waited", "added", "has_stop", "hide_usage", "limits", "stream",
    )  # fmt: skip

    def __init__(
        self, path: DataPath, client: ClientConnection, chat: ChatRequest, route: Route, request_id: bytes,
        trace: bytes, *, fallback: bool, keep_alive: bool, started: float,
    ) -> None:  # fmt: skip
        self._path = path
        self._client = client
        self._chat = chat
        self._route = route
        self._id = request_id
        self._trace = trace
        self._fallback = fallback
        self._keep_alive = keep_alive
        self._started = started
        self._total_at = started + route.timeouts.total
        self._phase_at = self._total_at
        self._waited = 0.0
        """Seconds spent waiting for backends, which are not our overhead."""
        self._mark = started
        self._tried: list[Tried] = []
        self._connection: UpstreamConnection | None = None
        self._dialing: asyncio.Task[None] | None = None
        self._answer: Answer | None = None
        self._unfit: tuple[Refusal, Target] | None = None
        """The first refusal that was not the caller's fault, and whose."""
        self._empty: Refusal | None = None
        self._committed = False
        self._done = False
        self._paused = False
        self._ending = False
        self._redialed = False
        self._trial = False
        self._trying = False
        """An attempt has begun and is not over."""
        self._overhead_us = 0
        self._progress_at = started
        self._status = 200
        self._first_token_ms: float | None = None
        self._sent_at = started
        self.limits = path.limits
        self.stream = chat.stream
        self.has_stop = chat.has_stop
        self.hide_usage = not chat.wants_usage
        self.added: tuple[str, ...] = ()

    # ---- attempts

    def start(self) -> None:
        choice = first_choice(self._route, self._path.state.health)
        if choice is not None:
            self._attempt(*choice, Place.PRIORITY)
        else:
            self._next()

    def _next(self) -> None:
        state = self._path.state
        now = state.clock()
        ordering = order(self._route, state.health, now, fallback=self._fallback)
        choice = next_attempt(self._route, ordering, self._tried, fallback=self._fallback)
        if choice is None or now >= self._total_at:
            self._give_up(ordering, now)
            return
        candidate, endpoint = choice
        if self._tried:
            last = self._tried[-1]
            if last.target is not candidate.target:
                state.fell_back(
                    self._route.name, last.target.backend.name, candidate.target.backend.name,
                    last.judged.verdict.value, self._id.decode("latin-1"),
                )  # fmt: skip
        self._attempt(candidate.target, endpoint, candidate.place)

    def _attempt(self, target: Target, endpoint: Endpoint, place: Place) -> None:
        path = self._path
        self._target = target
        self._endpoint = endpoint
        self._place = place
        self._trying = True
        self._redialed = False
        self._begun = now = path.state.clock()
        machine = path.state.health.machine(endpoint.key)
        self._machine = machine
        if machine is not None:
            self._trial = machine.begin()
        self._pool = path.pools.of(target.backend, endpoint)
        connection = self._pool.take(now)
        if connection is not None:
            self._send(connection)
        else:
            self._dial()

    def _dial(self) -> None:
        self._mark = self._path.state.clock()
        self._phase_at = self._total_at
        self._client.set_deadline(self._total_at)
        self._dialing = asyncio.get_running_loop().create_task(self._dialed())

    async def _dialed(self) -> None:
        timeout = min(self._route.timeouts.connect, max(0.0, self._total_at - self._path.state.clock()))
        try:
            connection = await self._pool.dial(timeout)
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
        self._answer = None
        target = self._target
        chat = self._chat
        ask_usage = chat.stream and not chat.wants_usage and self._path.asks_usage(target.backend)
        self.added = (USAGE_FIELD,) if ask_usage else ()
        body = compose(chat, target.upstream_model, ask_usage=ask_usage)
        connection.send(
            self,
            b"%bcontent-length: %d\r\nx-request-id: %b\r\n%b%b\r\n%b"
            % (
                self._pool.head, len(body), self._id, self._trace,
                b"accept: text/event-stream\r\n" if chat.stream else b"accept: application/json\r\n", body,
            ),
        )  # fmt: skip
        self._sent_at = self._progress_at = self._mark = now = self._path.state.clock()
        timeouts = self._route.timeouts
        self._phase(now + (timeouts.first_token if chat.stream else timeouts.answer))

    # ---- what the backend does

    def upstream_data(self, connection: UpstreamConnection) -> None:
        self._wait_over()
        reader = connection.reader
        answer = self._answer
        if answer is None:
            if not reader.head_done:
                if reader.fault is not None:
                    self.failed(fault(reader.fault))
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
        now = self._path.state.clock()
        self._waited += now - self._mark
        self._mark = now

    # ---- what the answer says (`relay.Relayed`)

    def unix(self) -> float:
        return self._path.state.unix(self._path.state.clock())

    def deliver(self, content_type: bytes, body: bytes, usage: Usage | None) -> None:
        self._first_token_ms = (self._mark - self._sent_at) * 1000
        self._reply(200, content_type, body)
        self._over(SUCCESS)
        self._finish(SUCCESS, usage)

    def commit(self, content_type: bytes) -> None:
        self._committed = True
        self._first_token_ms = (self._mark - self._sent_at) * 1000
        self._chat.body = b""
        self._client.begin(content_type, self._provenance(), self._keep_alive)

    def pass_on(self, data: bytes, progress: bool) -> None:
        if data:
            self._client.write(data)
        now = self._mark
        if progress:
            self._progress_at = now
            if self._machine is not None:
                self._machine.advanced_at = now
            if self._committed:
                self._phase(now + self._route.timeouts.idle)

    def ending(self) -> None:
        if not self._ending:
            self._ending = True
            self._phase(self._mark + self.limits.end_grace_seconds)

    def conclude(self, last: bytes, judged: Judgement, usage: Usage | None) -> None:
        self._client.end(last)
        self._over(judged)
        self._finish(judged, usage)

    def cut_short(self, judged: Judgement) -> None:
        self._client.abort()
        self._over(judged)
        self._finish(judged, None)

    def failed(self, judged: Judgement, answer: Refusal | None = None) -> None:
        if judged.why is Why.ADDED_FIELD:
            self._path.no_usage(self._target.backend)
            self._again()
            return
        if answer is not None:
            if judged.why is Why.EMPTY:
                self._empty = answer
            elif judged.verdict is Verdict.UNFIT and self._unfit is None:
                self._unfit = answer, self._target
        self._over(judged)
        if judged.verdict is Verdict.CALLER and answer is not None:
            self._pass_refusal(answer, judged)
        else:
            self._next()

    def _again(self) -> None:
        """The same request to the same endpoint, without the field that it did not know."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.release()
        pooled = self._pool.take(self._mark)
        if pooled is not None:
            self._send(pooled)
        else:
            self._dial()

    def _over(self, judged: Judgement) -> None:
        """The attempt ends: its connection, its place in the health of its endpoint, its figures."""
        path = self._path
        now = path.state.clock()
        connection, self._connection = self._connection, None
        if connection is not None:
            if self._paused:
                connection.resume()
            if judged is SUCCESS or connection.reader.complete:
                connection.release()
            else:
                connection.close()
        self._answer = None
        self._trying = False
        target = self._target
        machine = self._machine
        if machine is not None:
            machine.end(self._trial)
        ms = (now - self._begun) * 1000
        book = path.state.health
        if judged is SUCCESS:
            book.observe_success(self._endpoint.key, target.upstream_model, self._first_token_ms, now)
        else:
            self._tried.append(Tried(target, self._endpoint, self._place, judged, ms))
            book.observe_answer(
                self._endpoint.key, judged, model=target.upstream_model, request=self._id.decode("latin-1"), now=now,
                waited_since=self._progress_at,
                jitter=path.state.jitter(),
            )  # fmt: skip
        path.state.meter.attempt_finished(
            self._route.name, target.backend.name, target.model, judged.verdict.value, judged.why.value, ms
        )

    # ---- the end

    def _give_up(self, ordering: Ordering, now: float) -> None:
        tried = self._tried
        if tried and all_empty(tried) and self._empty is not None:
            self._pass_refusal(self._empty, tried[-1].judged, b"x-pointsman-verdict: EmptyAnswer\r\n")
            return
        if self._unfit is not None and all(t.judged.verdict is Verdict.UNFIT for t in tried):
            answer, self._target = self._unfit
            self._pass_refusal(answer, tried[0].judged)
            return
        given = surrender(self._chat.model, tried, ordering.excluded, now)
        extra = b"x-pointsman-attempts: %d\r\nx-request-id: %b\r\n" % (len(tried), self._id)
        if given.retry_after is not None:
            extra += b"retry-after: %d\r\n" % ceil(given.retry_after)
        if given.retry_useless:
            extra += b"x-should-retry: false\r\n"
        self._status = given.status
        body = error_body(given.message, "upstream_error", given.code)
        self._client.reply(replies.whole(given.status, replies.JSON, extra, body, self._alive()))
        self._finish(tried[-1].judged if tried else Judgement(Verdict.FAILURE, Why.UNREACHABLE), None, served=False)

    def _pass_refusal(self, answer: Refusal, judged: Judgement, extra: bytes = b"") -> None:
        """What a backend said is what the client gets."""
        self._status = answer.status
        content_type = answer.content_type or replies.JSON
        self._client.reply(
            replies.whole(answer.status, content_type, self._provenance() + extra, answer.body, self._alive())
        )
        self._finish(judged, None)

    def _reply(self, status: int, content_type: bytes, body: bytes) -> None:
        self._client.reply(replies.whole(status, content_type, self._provenance(), body, self._alive()))

    def _provenance(self) -> bytes:
        self._overhead_us = overhead = int((self._path.state.clock() - self._started - self._waited) * 1e6)
        return b"%bx-pointsman-attempts: %d\r\nx-pointsman-overhead-us: %d\r\nx-request-id: %b\r\n%b" % (
            self._path.served_by(self._target), len(self._tried) + self._trying, overhead, self._id,
            b"x-pointsman-trial: LeastBad\r\n" if self._place is Place.LEAST_BAD else b"",
        )  # fmt: skip

    def _alive(self) -> bool:
        return self._keep_alive and not self._path.draining

    def _finish(self, judged: Judgement, usage: Usage | None, *, served: bool = True) -> None:
        self._done = True
        path = self._path
        now = path.state.clock()
        tried = self._tried
        if len(tried) > 1:
            path.state.health.withdraw([e.key for e in blameless(tried)], self._id.decode("latin-1"), now)
        record = RequestRecord(
            self._id.decode("latin-1"), self._route.name, self._chat.model, self._status, self.stream,
            (now - self._started) * 1000, len(tried) + (judged is SUCCESS), self._target.backend.name if served else "",
            judged.verdict.value, judged.why.value, self._first_token_ms,
            self._overhead_us,
            usage.prompt_tokens if usage else None, usage.completion_tokens if usage else None,
        )  # fmt: skip
        path.finished(self, record)
        self._client.finished()

    # ---- what the client and the clock do

    def client_gone(self) -> None:
        if not self._done:
            self._stop(_CLIENT_GONE)
            self._status = _GONE
            self._finish(_CLIENT_GONE, None, served=self._committed)

    def _stop(self, judged: Judgement) -> None:
        if self._dialing is not None:
            self._dialing.cancel()
            self._dialing = None
        self._over(judged)

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
                self._phase(self._path.state.clock() + self._route.timeouts.idle)

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
