"""One attempt: one request sent to one endpoint, and what becomes of it.

Decided here: when an attempt sends, gives up waiting, tries its endpoint once more without anybody noticing. Not here:
who is asked (`exchange.py`), what an answer is worth (`answers.py`).

Invariants: an attempt that began ends exactly once (`_over`), and then has neither connection nor dial; of the attempts
of one request at most one commits.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from pointsman.dialects.openai import USAGE_FIELD
from pointsman.dialects.usage import Usage
from pointsman.domain.attempts import Tried
from pointsman.domain.candidates import Place
from pointsman.domain.failure import fault
from pointsman.domain.patience import SHORT_BYTES, grown
from pointsman.domain.verdict import SUCCESS, Judgement, Why
from pointsman.gateway.relay.answers import Answer, Refusal, Relayed, is_plain_json, judge_json, open_answer
from pointsman.gateway.upstream.connection import UpstreamConnection
from pointsman.gateway.upstream.dialer import DialFailed
from pointsman.gateway.upstream.roster import Lane

if TYPE_CHECKING:
    from pointsman.gateway.relay.exchange import Exchange

NEVER: Final = float("inf")
LARGE_BYTES: Final = 64 * 1024
"""Larger bodies are not copied on their way out."""
_NO_FIELDS: Final[tuple[str, ...]] = ()
_USAGE_FIELDS: Final = (USAGE_FIELD,)


class Attempt(Relayed):
    __slots__ = (
        "_answer", "_connection", "_dialing", "_ending", "_progress_at", "_redialed", "_sent_at", "_trial", "begun",
        "beside", "committed", "exchange", "first_token_ms", "lane", "over", "phase_at", "place",
    )  # fmt: skip

    def __init__(self, exchange: Exchange, lane: Lane, place: Place, now: float, beside: bool) -> None:
        super().__init__(exchange.limits, exchange.operation, exchange.request)
        self.exchange = exchange
        self.lane = lane
        self.place = place
        self.begun = now
        self.beside = beside
        """It was begun beside another that was slow."""
        self.phase_at = NEVER
        """When its patience ends; the exchange's deadline may be earlier."""
        self.first_token_ms: float | None = None
        self.committed = False
        self.over = False
        self._sent_at = now
        self._progress_at = now
        self._connection: UpstreamConnection | None = None
        self._dialing: asyncio.Task[None] | None = None
        self._answer: Answer | None = None
        self._redialed = False
        self._ending = False
        self._trial = lane.machine.begin(place is Place.LEAST_BAD)
        if beside:
            exchange.path.hedges += 1

    def start(self) -> None:
        exchange = self.exchange
        care = exchange.request.care
        # On a connection that was idle we may learn too late that it was closed, and not know whether it was read; nor
        # can a body that is not kept be sent again.
        fresh = exchange.once or (care is not None and care.acts)
        connection = None if fresh else self.lane.pool.take(self.begun)
        if connection is not None:
            self._send(connection)
        else:
            self._dial()

    def stop(self, judged: Judgement, now: float) -> None:
        """Ends it from outside: the backend should stop working for nobody."""
        if self._dialing is not None:
            self._dialing.cancel()
            self._dialing = None
        self._over(judged, now)

    def pause(self, slow: bool) -> None:
        """The client does not take what it is sent: nor do we, from its backend."""
        if self._connection is not None:
            if slow:
                self._connection.pause()
            else:
                self._connection.resume()

    def client_reads_again(self, now: float) -> None:
        if self.committed:
            self.phase_at = now + self.exchange.route.timeouts.idle

    # ---- the request

    def _dial(self) -> None:
        self.phase_at = NEVER
        self.exchange.reschedule()
        self._dialing = asyncio.get_running_loop().create_task(self._dialed())

    async def _dialed(self) -> None:
        exchange = self.exchange
        timeout = min(exchange.route.timeouts.connect, max(0.0, exchange.total_at - exchange.clock()))
        try:
            connection = await self.lane.pool.dial(timeout)
        except DialFailed as e:
            self._dialing = None
            exchange.awake()
            self.failed(e.judged)
            return
        self._dialing = None
        exchange.awake()
        self._send(connection)

    def _send(self, connection: UpstreamConnection) -> None:
        self._connection = connection
        self._ending = False
        exchange = self.exchange
        lane = self.lane
        request = exchange.request
        operation = self.operation
        stream = self.stream
        once = exchange.once
        ask_usage = stream and not request.wants_usage and not once and exchange.path.asks_usage(lane.target.backend)
        self.added = _USAGE_FIELDS if ask_usage else _NO_FIELDS
        in_place = operation.compose_in_place
        if in_place is not None and len(request.body) > LARGE_BYTES:
            pieces = in_place(request, lane.target.upstream_model, ask_usage)
            size = sum(map(len, pieces))
            head = b"%bcontent-length: %d\r\nx-request-id: %b\r\n%b\r\n" % (
                lane.pool.head(operation.path, stream), size, exchange.id, exchange.trace,
            )  # fmt: skip
            connection.send_pieces(self, [head, *pieces])
        else:
            body = operation.compose(request, lane.target.upstream_model, ask_usage)
            size = len(body)
            connection.send(
                self,
                b"%bcontent-length: %d\r\nx-request-id: %b\r\n%b\r\n%b"
                % (lane.pool.head(operation.path, stream), size, exchange.id, exchange.trace, body),
            )
        if once:
            exchange.forget_body()
        timeouts = exchange.route.timeouts
        self._sent_at = self._progress_at = exchange.mark = now = exchange.clock()
        if stream:
            patience = timeouts.first_token
            self.phase_at = now + (patience if size < SHORT_BYTES else grown(patience, size))
            if exchange.route.hedge is not None and not self.beside and not once:
                exchange.hedge_at = now + grown(exchange.route.hedge.after, size)
        else:
            self.phase_at = now + timeouts.answer
        exchange.reschedule()

    # ---- what the backend does (`upstream.connection.Owner`)

    def upstream_data(self, connection: UpstreamConnection) -> None:
        self.exchange.awake()
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
        if reader.fault is not None and self._answer is answer and not self.over:
            answer.broken(fault(reader.fault))

    def upstream_lost(self, connection: UpstreamConnection) -> None:
        self._connection = None
        self.exchange.awake()
        if self._answer is not None:
            self._answer.broken(fault(Why.CUT))
        elif connection.reused and not connection.reader.touched and not self._redialed:
            # It was closed while it was idle; we noticed only now. The backend never saw the request.
            self._redialed = True
            self._dial()
        else:
            self.failed(fault(Why.CUT if connection.reader.touched else Why.RESET))

    # ---- what the answer says (`answers.Relayed`)

    def unix(self) -> float:
        return self.exchange.state.unix(self.exchange.mark)

    def keep(self, answer_id: str) -> None:
        exchange = self.exchange
        care = exchange.request.care
        if care is None:
            return
        place = self.lane.endpoint.key
        if answer_id and care.stores:
            exchange.path.learnt.kept.remember(answer_id, place)
        if care.conversation:
            exchange.path.learnt.kept.remember(care.conversation, place)

    def deliver(self, content_type: bytes, body: bytes, usage: Usage | None) -> None:
        exchange = self.exchange
        self.first_token_ms = (exchange.mark - self._sent_at) * 1000
        now = exchange.clock()
        exchange.deliver(self, content_type, body, now)
        self._over(SUCCESS, now)
        exchange.finish(SUCCESS, usage, now)

    def commit(self, content_type: bytes) -> None:
        self.committed = True
        self.first_token_ms = (self.exchange.mark - self._sent_at) * 1000
        self.exchange.commit(self, content_type)

    def pass_on(self, data: bytes, progress: bool) -> None:
        exchange = self.exchange
        if data:
            exchange.client.write(data)
        if progress:
            self._progress_at = self.lane.machine.advanced_at = now = exchange.mark
            if self.committed:
                self.phase_at = now + exchange.route.timeouts.idle
                exchange.reschedule()

    def ending(self) -> None:
        if not self._ending:
            self._ending = True
            self.phase_at = self.exchange.mark + self.limits.end_grace_seconds
            self.exchange.reschedule()

    def conclude(self, last: bytes, judged: Judgement, usage: Usage | None) -> None:
        exchange = self.exchange
        exchange.client.end(last)
        now = exchange.clock()
        self._over(judged, now)
        exchange.finish(judged, usage, now)

    def conclude_late(self, judged: Judgement) -> None:
        """A committed stream has no time left."""
        self.conclude(self._answer.error_frame(judged) if self._answer is not None else b"", judged, None)

    def cut_short(self, judged: Judgement) -> None:
        exchange = self.exchange
        exchange.client.abort()
        self._over(judged, exchange.mark)
        exchange.finish(judged, None, exchange.mark)

    def failed(self, judged: Judgement, answer: Refusal | None = None) -> None:
        if judged.why is Why.ADDED_FIELD:
            self.exchange.path.no_usage(self.lane.target.backend)
            self._again()
            return
        self._over(judged, self.exchange.mark)
        self.exchange.lost(self, judged, answer)

    def _again(self) -> None:
        """The same request to the same endpoint, without the field that it did not know."""
        now = self.exchange.mark
        connection, self._connection = self._connection, None
        self._answer = None
        if connection is not None:
            connection.release(now)
        pooled = self.lane.pool.take(now)
        if pooled is not None:
            self._send(pooled)
        else:
            self._dial()

    # ---- time

    def out_of_patience(self) -> None:
        """`phase_at` is over."""
        self.exchange.awake()
        if self._ending and self._answer is not None:
            self._answer.complete()
        elif self.committed:
            self.exchange.timed_out(fault(Why.IDLE_TIMEOUT))
        else:
            judged = fault(Why.FIRST_TOKEN_TIMEOUT if self.stream else Why.ANSWER_TIMEOUT)
            self.stop(judged, self.exchange.mark)
            self.exchange.lost(self, judged, None)

    # ---- the end

    def _over(self, judged: Judgement, now: float) -> None:
        """Its connection, its place in the health of its endpoint, its figures."""
        self.over = True
        exchange = self.exchange
        connection, self._connection = self._connection, None
        if connection is not None:
            if exchange.paused:
                connection.resume()
            if judged is SUCCESS or connection.reader.complete:
                connection.release(now)
            else:
                connection.close()
        self._answer = None
        exchange.running.remove(self)
        lane = self.lane
        target = lane.target
        freed = lane.machine.end(self._trial)
        ms = (now - self.begun) * 1000
        path = exchange.path
        health = path.health
        if judged is SUCCESS:
            health.observe_success(
                lane.endpoint.key, target.upstream_model, self.first_token_ms, now, stream=self.stream
            )
            verdict, why = "Success", "Answered"
        else:
            exchange.tried.append(Tried(target, lane.endpoint, self.place, judged, ms))
            health.observe_answer(
                lane.endpoint.key, judged, model=target.upstream_model, request=exchange.name(), now=now,
                waited_since=self._progress_at, jitter=path.state.jitter(),
            )  # fmt: skip
            verdict, why = judged.verdict.value, judged.why.value
        path.meter.attempt_finished(exchange.route.name, target.backend.name, target.model, verdict, why, ms)
        if self.beside:
            path.hedges -= 1
            outcome = "Won" if self.committed else "Lost" if judged.why is Why.OUTRUN else "Failed"
            path.meter.hedged(exchange.route.name, outcome)
        if freed:
            path.state.waiting.freed(target.backend.name)
