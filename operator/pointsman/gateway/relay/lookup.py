"""What a client asks for by an id that a backend gave: found at who keeps it, and passed on.

Decided here: how places are asked, one after another, and how the answer goes out. Not here: who is asked and what an
answer means (`domain/stored.py`).

Invariants: a lookup finishes exactly once; after the first byte of an answer nobody else is asked. An answer is passed
on as it is: it was judged when it was made.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pointsman.dialects.openai_stored import is_json, listed_ids
from pointsman.domain.failure import fault
from pointsman.domain.judging import retry_after_seconds
from pointsman.domain.stored import Looked, Shelf, judge_stored, not_found
from pointsman.domain.verdict import SUCCESS, Judgement, Verdict, Why
from pointsman.gateway.insight.record import RequestRecord
from pointsman.gateway.relay import replies
from pointsman.gateway.relay.answers import Refusal
from pointsman.gateway.relay.client import Client, Served
from pointsman.gateway.upstream.connection import UpstreamConnection
from pointsman.gateway.upstream.dialer import DialFailed

if TYPE_CHECKING:
    from pointsman.gateway.relay.datapath import DataPath

CONNECT_SECONDS = 2.0
OPERATION = "stored"
"""As metrics and the access log call it."""
_GONE = 499
_PLAIN: tuple[bytes, ...] = (b"", b"identity")
_CLIENT_GONE = fault(Why.CLIENT_GONE)


class Question:
    """What is asked of each place."""

    __slots__ = ("body", "id", "method", "target", "what")

    def __init__(self, what: str, kept_id: str, method: str, target: str, body: bytes = b"") -> None:
        self.what = what
        """For people: `response resp_1`."""
        self.id = kept_id
        """Remembered with whoever has it; empty for a list, whose ids are remembered instead."""
        self.method = method
        self.target = target
        """Path of the backend's API, with the query."""
        self.body = body


class Lookup(Served):
    __slots__ = (
        "_asked_at", "_committed", "_connection", "_dialing", "_done", "_keep_alive", "_looked", "_next_place",
        "_path", "_paused", "_phase_at", "_pieces", "_places", "_question", "_redialed", "_refusal", "_roster", "_size",
        "_started", "_status", "_total_at", "_trace", "client", "id",
    )  # fmt: skip

    def __init__(
        self, path: DataPath, client: Client, question: Question, places: list[Shelf], request_id: bytes,
        trace: bytes, keep_alive: bool, started: float,
    ) -> None:  # fmt: skip
        super().__init__()
        self.client = client
        self.id = request_id
        self._path = path
        self._roster = path.roster
        self._question = question
        self._places = places
        self._trace = trace
        self._keep_alive = keep_alive
        self._started = started
        self._total_at = started + path.limits.stored_total_seconds
        self._phase_at = self._total_at
        self._asked_at = started
        self._next_place = 0
        self._looked: list[Looked] = []
        self._refusal: Refusal | None = None
        """The first word of a backend on what is the client's own fault, and whose."""
        self._connection: UpstreamConnection | None = None
        self._dialing: asyncio.Task[None] | None = None
        self._redialed = False
        self._pieces: list[bytes] = []
        self._size = 0
        self._committed = False
        self._paused = False
        self._done = False
        self._status = 200

    def start(self) -> None:
        self._ask_next()

    # ---- one place

    def _ask_next(self) -> None:
        now = self._path.clock()
        if self._next_place >= len(self._places) or now >= self._total_at:
            self._conclude(now)
            return
        place = self._places[self._next_place]
        self._next_place += 1
        self._asked_at = now
        self._redialed = False
        self._set_phase(now + self._path.limits.stored_answer_seconds)
        connection = self._roster.pool(place.backend, place.endpoint).take(now)
        if connection is not None:
            self._send(connection)
        else:
            self._dial()

    def _dial(self) -> None:
        self._dialing = asyncio.get_running_loop().create_task(self._dialed(self._here()))

    async def _dialed(self, place: Shelf) -> None:
        timeout = min(CONNECT_SECONDS, max(0.0, self._total_at - self._path.clock()))
        try:
            connection = await self._roster.pool(place.backend, place.endpoint).dial(timeout)
        except DialFailed as e:
            self._dialing = None
            self._not_here(e.judged)
            return
        self._dialing = None
        self._send(connection)

    def _here(self) -> Shelf:
        return self._places[self._next_place - 1]

    def _send(self, connection: UpstreamConnection) -> None:
        self._connection = connection
        self._pieces = []
        self._size = 0
        place, question = self._here(), self._question
        head = self._roster.pool(place.backend, place.endpoint).asking(question.method, question.target)
        length = b"content-length: %d\r\n" % len(question.body) if question.method == "POST" else b""
        connection.send(self, b"%b%bx-request-id: %b\r\n%b\r\n%b" % (head, length, self.id, self._trace, question.body))

    # ---- what the backend does (`upstream.connection.Owner`)

    def upstream_data(self, connection: UpstreamConnection) -> None:
        reader = connection.reader
        if reader.head_done:
            pieces, reader.pieces = reader.pieces, []
            good = 200 <= reader.status < 300
            if self._committed:
                self._pass_on(pieces)
            else:
                self._pieces += pieces
                self._size += sum(map(len, pieces))
                limits = self._path.limits
                content_type = reader.headers.get(b"content-type", b"")
                if good and reader.headers.get(b"content-encoding", b"").lower() not in _PLAIN:
                    self._not_here(fault(Why.BROKEN_HTTP))
                    return
                if good and (content_type.startswith(b"text/event-stream") or self._size > limits.answer_bytes):
                    self._begin(content_type)
                elif reader.complete or (self._size > limits.error_bytes and not good):
                    self._judge(connection)
                    return
            if self._committed and reader.complete:
                self._end(connection)
                return
        if reader.fault is not None:
            self._broken(fault(reader.fault))

    def upstream_lost(self, connection: UpstreamConnection) -> None:
        self._connection = None
        if connection.reused and not connection.reader.touched and not self._redialed:
            # It was closed while it was idle; we noticed only now.
            self._redialed = True
            self._dial()
            return
        self._broken(fault(Why.CUT if connection.reader.touched else Why.RESET))

    def _judge(self, connection: UpstreamConnection) -> None:
        """A whole answer, or as much of an error as we read."""
        reader = connection.reader
        headers = reader.headers
        body = b"".join(self._pieces)
        content_type = headers.get(b"content-type", b"")
        if 200 <= reader.status < 300:
            if body and (b"html" in content_type.lower() or not is_json(body)):
                self._not_here(fault(Why.NOT_JSON))
            else:
                self._found(connection, reader.status, content_type, body)
            return
        retry = headers.get(b"retry-after")
        after = None
        if retry is not None:
            after = retry_after_seconds(retry.decode("latin-1"), self._path.state.unix(self._path.clock()))
        judged = judge_stored(reader.status, body, content_type.decode("latin-1"), after)
        if judged.verdict is Verdict.CALLER and self._refusal is None:
            self._refusal = Refusal(reader.status, content_type, body)
        self._not_here(judged)

    def _broken(self, judged: Judgement) -> None:
        if self._committed:
            # It has no other way to say that it is not whole.
            self._let_go()
            self.client.abort()
            self._finish(judged, self._path.clock())
        else:
            self._not_here(judged)

    def _not_here(self, judged: Judgement) -> None:
        self._let_go()
        now = self._path.clock()
        self._looked.append(Looked(self._here().backend.name, judged, (now - self._asked_at) * 1000))
        self._ask_next()

    # ---- the answer

    def _remember(self) -> None:
        if self._question.id:
            self._path.learnt.kept.remember(self._question.id, self._here().endpoint.key)

    def _found(self, connection: UpstreamConnection, status: int, content_type: bytes, body: bytes) -> None:
        self._remember()
        if not self._question.id:
            for listed in listed_ids(body):
                self._path.learnt.kept.remember(listed, self._here().endpoint.key)
        extra = self._provenance()
        self._status = status
        alive = self._alive()
        if status == 204:
            self.client.reply(replies.nothing(extra, alive))
        else:
            self.client.reply(replies.whole(status, content_type or replies.JSON, extra, body, alive))
        self._end_well(connection)

    def _begin(self, content_type: bytes) -> None:
        self._remember()
        self._committed = True
        self.client.begin(content_type or replies.JSON, self._provenance(), self._keep_alive)
        pieces, self._pieces = self._pieces, []
        self._pass_on(pieces)

    def _pass_on(self, pieces: list[bytes]) -> None:
        data = b"".join(pieces)
        if data:
            self.client.write(data)
        self._set_phase(self._path.clock() + self._path.limits.stored_idle_seconds)

    def _end(self, connection: UpstreamConnection) -> None:
        self.client.end(b"")
        self._end_well(connection)

    def _end_well(self, connection: UpstreamConnection) -> None:
        now = self._path.clock()
        self._connection = None
        if self._paused:
            connection.resume()
        connection.release(now)
        self._finish(SUCCESS, now)

    def _provenance(self) -> bytes:
        return b"x-pointsman-backend: %b\r\nx-pointsman-attempts: %d\r\nx-request-id: %b\r\n" % (
            self._here().backend.name.encode(), len(self._looked) + 1, self.id,
        )  # fmt: skip

    def _conclude(self, now: float) -> None:
        """Nobody has it, or nobody who could be asked."""
        looked = self._looked
        refusal = self._refusal
        if refusal is not None and all(x.judged.verdict in (Verdict.CALLER, Verdict.UNFIT) for x in looked):
            extra = b"x-pointsman-attempts: %d\r\nx-request-id: %b\r\n" % (len(looked), self.id)
            self._status = refusal.status
            self.client.reply(
                replies.whole(refusal.status, refusal.content_type or replies.JSON, extra, refusal.body, self._alive())
            )
        else:
            given = not_found(self._question.what, looked, len(self._places) - self._next_place)
            self._status = given.status
            self.client.reply(replies.gave_up(given, len(looked), self.id, self._alive()))
        last = looked[-1].judged if looked else None
        self._finish(last if last is not None else judge_stored(404, b"", "", None), now)

    def _alive(self) -> bool:
        return self._keep_alive and not self._path.leaving

    def _let_go(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            if self._paused:
                connection.resume()
            if connection.reader.complete:
                connection.release(self._path.clock())
            else:
                connection.close()

    def _finish(self, judged: Judgement, now: float) -> None:
        self._done = True
        good = judged is SUCCESS
        self._path.finished(
            RequestRecord(
                self.id.decode("latin-1"), "", "", self._status, self._committed, (now - self._started) * 1000,
                len(self._looked) + good, self._here().backend.name if good else "",
                "Success" if good else judged.verdict.value, "Answered" if good else judged.why.value,
                None, 0, None, None, operation=OPERATION,
            )
        )  # fmt: skip
        self.client.finished(now)

    # ---- what the client and the clock do

    def client_gone(self) -> None:
        if self._done:
            return
        if self._dialing is not None:
            self._dialing.cancel()
            self._dialing = None
        self._let_go()
        self._status = _GONE
        self._finish(_CLIENT_GONE, self._path.clock())

    def client_slow(self, slow: bool) -> None:
        self._paused = slow
        connection = self._connection
        if connection is not None:
            if slow:
                connection.pause()
            else:
                connection.resume()
        limits = self._path.limits
        patience = limits.stored_idle_seconds if self._committed else limits.stored_answer_seconds
        self._set_phase(self._path.clock() + patience)

    def _set_phase(self, at: float) -> None:
        self._phase_at = at if self._committed else min(at, self._total_at)
        self.client.set_deadline(self._phase_at)

    def on_deadline(self, now: float) -> None:
        if now < self._phase_at:
            self.client.set_deadline(self._phase_at)
            return
        if self._paused:
            # It is the client that does not take what is there.
            self._set_phase(now + self._path.limits.stored_idle_seconds)
            return
        if self._dialing is not None:
            self._dialing.cancel()
            self._dialing = None
        self._broken(fault(Why.IDLE_TIMEOUT if self._committed else Why.ANSWER_TIMEOUT))
