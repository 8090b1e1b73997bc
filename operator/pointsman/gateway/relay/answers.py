"""One answer of a backend, from its head to its end: collected and judged, or passed on as a stream.

Decided here: when an answer commits, and what the client is sent of it. Not here: who is asked next (`exchange.py`) and
what the verdicts mean.

The three kinds of answer know the attempt they belong to only by `Relayed`: they judge, it acts.
"""

from __future__ import annotations

import zlib
from enum import Enum, auto
from functools import lru_cache
from typing import Final

from pointsman.dialects.openai_answer import BROKEN_JSON
from pointsman.dialects.operation import Operation
from pointsman.dialects.request import ChatRequest
from pointsman.dialects.sse import EventStream, is_utf8
from pointsman.dialects.usage import Usage
from pointsman.domain.failure import fault
from pointsman.domain.judging import Said, judge_said, judge_status, retry_after_seconds
from pointsman.domain.verdict import EMPTY, SUCCESS, Judgement, Why
from pointsman.gateway.limits import Limits
from pointsman.gateway.upstream.answer_reader import AnswerReader

JSON: Final = b"application/json"
_ENCODINGS = (b"", b"identity")
_ZIPPED = (b"gzip", b"deflate", b"x-gzip")


class Relayed:
    """What an answer may ask of its attempt."""

    __slots__ = ("added", "hide_usage", "limits", "operation", "request", "stream")

    def __init__(self, limits: Limits, operation: Operation, request: ChatRequest) -> None:
        self.limits = limits
        self.operation = operation
        self.request = request
        self.stream = request.stream
        self.hide_usage = not request.wants_usage
        self.added: tuple[str, ...] = ()
        """Fields that we put into the request."""

    def deliver(self, content_type: bytes, body: bytes, usage: Usage | None) -> None:
        """A whole, good answer."""
        raise NotImplementedError

    def commit(self, content_type: bytes) -> None:
        """The head goes out: no other answer can follow."""
        raise NotImplementedError

    def pass_on(self, data: bytes, progress: bool) -> None:
        """A piece of a committed answer."""
        raise NotImplementedError

    def conclude(self, last: bytes, judged: Judgement, usage: Usage | None) -> None:
        """A committed answer is over; `last` is the last that the client gets."""
        raise NotImplementedError

    def cut_short(self, judged: Judgement) -> None:
        """A committed answer that has no way to say that it failed: the connection is aborted."""
        raise NotImplementedError

    def ending(self) -> None:
        """The answer is whole but for its last formality."""
        raise NotImplementedError

    def failed(self, judged: Judgement, answer: Refusal | None = None) -> None:
        """Nothing was committed: the next candidate may be asked. `answer` is what the backend said."""
        raise NotImplementedError

    def keep(self, answer_id: str) -> None:
        """The answer can be continued by this id."""
        raise NotImplementedError

    def unix(self) -> float:
        """Unix seconds of now."""
        raise NotImplementedError


class Refusal:
    """A whole answer that the client may get in the end, if nobody has a better one."""

    __slots__ = ("body", "content_type", "status")

    def __init__(self, status: int, content_type: bytes, body: bytes) -> None:
        self.status = status
        self.content_type = content_type
        self.body = body


class Answer:
    """One of the three kinds."""

    __slots__ = ()

    def feed(self, pieces: list[bytes], complete: bool) -> None:
        raise NotImplementedError

    def broken(self, judged: Judgement) -> None:
        """The connection or its framing failed before the answer was whole."""
        raise NotImplementedError

    def complete(self) -> None:
        """Nothing came after what was its last word: it is whole without more."""
        raise NotImplementedError

    def error_frame(self, judged: Judgement) -> bytes:
        """The last of a committed answer that says that it failed."""
        raise NotImplementedError


class _Kind(Enum):
    """What a Content-Type makes of a body."""

    JSON = auto()
    """Also when nothing is said."""
    EVENTS = auto()
    HTML = auto()
    OTHER = auto()


@lru_cache(maxsize=256)
def _kind(content_type: bytes) -> _Kind:
    value = content_type.lower()
    if not value or b"json" in value:
        return _Kind.JSON
    if value.startswith(b"text/event-stream"):
        return _Kind.EVENTS
    return _Kind.HTML if b"html" in value else _Kind.OTHER


def open_answer(reader: AnswerReader, attempt: Relayed) -> Answer | Judgement:
    """What kind of answer a head announces; a judgement when it is none that could serve."""
    headers = reader.headers
    inflater = None
    encoding = headers.get(b"content-encoding")
    if encoding is not None and (encoding := encoding.strip().lower()) not in _ENCODINGS:
        if encoding not in _ZIPPED:
            return fault(Why.BROKEN_HTTP)
        inflater = _Inflater()
    content_type = headers.get(b"content-type", b"")
    if reader.status < 200 or reader.status >= 300:
        return ErrorAnswer(attempt, reader, content_type, inflater)
    kind = _kind(content_type)
    if attempt.stream:
        if kind is _Kind.EVENTS:
            return StreamAnswer(attempt, inflater)
        if kind is _Kind.HTML:
            return fault(Why.NOT_JSON)
        # An error or a whole answer where a stream was asked for: collected, to see which.
        return JsonAnswer(attempt, content_type, inflater)
    if kind is _Kind.JSON:
        return JsonAnswer(attempt, content_type, inflater)
    return fault(Why.BROKEN_STREAM if kind is _Kind.EVENTS else Why.NOT_JSON)


class _Inflater:
    """Undoes a content encoding that we did not ask for, within a bound."""

    def __init__(self) -> None:
        self._z = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)

    def feed(self, data: bytes, limit: int) -> bytes | None:
        """None when it is broken or larger than `limit`."""
        try:
            out = self._z.decompress(data, limit)
        except zlib.error:
            return None
        return None if self._z.unconsumed_tail else out


class ErrorAnswer(Answer):
    """An answer that is not 2xx: collected, then judged by the table."""

    def __init__(self, attempt: Relayed, reader: AnswerReader, content_type: bytes, inflater: _Inflater | None) -> None:
        self._x = attempt
        self._status = reader.status
        self._type = content_type
        self._inflater = inflater
        retry = reader.headers.get(b"retry-after")
        self._retry_after = retry_after_seconds(retry.decode("latin-1"), attempt.unix()) if retry else None
        self._body = bytearray()

    def feed(self, pieces: list[bytes], complete: bool) -> None:
        for piece in pieces:
            self._body += piece
        if complete or len(self._body) > self._x.limits.error_bytes:
            self._judge()

    def broken(self, judged: Judgement) -> None:
        # The status stands; what is there of the body tells more.
        self._judge()

    def _judge(self) -> None:
        body = bytes(self._body[: self._x.limits.error_bytes])
        if self._inflater is not None:
            body = self._inflater.feed(body, self._x.limits.error_bytes) or b""
        judged = judge_status(self._status, body, self._type.decode("latin-1"), self._retry_after, self._x.added)
        self._x.failed(judged, Refusal(self._status, self._type, body))


class JsonAnswer(Answer):
    """A whole JSON answer, judged before a byte of it goes out; above the limit it is passed on unjudged."""

    __slots__ = ("_committed", "_inflater", "_pieces", "_size", "_type", "_x")

    def __init__(self, attempt: Relayed, content_type: bytes, inflater: _Inflater | None) -> None:
        self._x = attempt
        self._type = content_type or b"application/json"
        self._inflater = inflater
        self._pieces: list[bytes] = []
        self._size = 0
        self._committed = False

    def feed(self, pieces: list[bytes], complete: bool) -> None:
        if self._committed:
            self._pass(pieces, complete)
            return
        if complete and not self._pieces:
            self._judge(pieces[0] if len(pieces) == 1 else b"".join(pieces))
            return
        self._pieces += pieces
        self._size += sum(map(len, pieces))
        if complete:
            self._judge(b"".join(self._pieces))
        elif self._size > self._x.limits.answer_bytes:
            if self._inflater is not None or self._x.stream:
                self._x.failed(fault(Why.TOO_LARGE))
                return
            self._committed = True
            self._x.commit(self._type)
            kept, self._pieces = self._pieces, []
            self._pass(kept, False)

    def broken(self, judged: Judgement) -> None:
        if self._committed:
            self._x.cut_short(judged)
        else:
            self._x.failed(judged)

    def _pass(self, pieces: list[bytes], complete: bool) -> None:
        data = b"".join(pieces)
        if complete:
            self._x.conclude(data, SUCCESS, None)
        elif data:
            self._x.pass_on(data, True)

    def _judge(self, body: bytes) -> None:
        x = self._x
        if self._inflater is not None:
            inflated = self._inflater.feed(body, x.limits.answer_bytes)
            if inflated is None:
                x.failed(fault(Why.BROKEN_HTTP))
                return
            body = inflated
        judge_json(x, body, self._type)


def is_plain_json(reader: AnswerReader) -> bool:
    """Good by its head, and nothing to undo."""
    headers = reader.headers
    content_type = headers.get(b"content-type")
    if reader.status != 200 or content_type is None or b"content-encoding" in headers:
        return False
    return content_type == JSON or _kind(content_type) is _Kind.JSON


def judge_json(x: Relayed, body: bytes, content_type: bytes) -> None:
    """Judges a whole body under 2xx."""
    operation = x.operation
    if not body.isascii() and not is_utf8(body):
        x.failed(BROKEN_JSON)
        return
    judged, usage, said = operation.judge(body, x.request)
    if judged is SUCCESS:
        if x.stream:
            x.failed(fault(Why.BROKEN_STREAM))
        else:
            if operation.kept_id is not None:
                x.keep(operation.kept_id(body))
            x.deliver(content_type, body, usage)
    elif said is not None:
        x.failed(judge_said(said), refusal(said, body))
    elif judged is EMPTY:
        x.failed(judged, Refusal(200, content_type, body))
    elif judged.why is Why.BROKEN_JSON and b"<html" in body[:512].lower():
        x.failed(fault(Why.NOT_JSON))
    else:
        x.failed(judged)


def refusal(said: Said, body: bytes) -> Refusal:
    """What the client gets of an error that came under status 200, if it gets it: as if it had come with its own."""
    return Refusal(said.status if 400 <= said.status < 500 else 400, b"application/json", said.shown or body)


class StreamAnswer(Answer):
    """A stream of events, held back until its first content."""

    __slots__ = ("_begun", "_inflater", "_reader", "_stream", "_type", "_x")

    def __init__(self, attempt: Relayed, inflater: _Inflater | None) -> None:
        self._x = attempt
        self._inflater = inflater
        self._reader = attempt.operation.open_stream(attempt.request)
        self._stream = EventStream(self._reader, hide_usage=attempt.hide_usage)
        self._type = b"text/event-stream; charset=utf-8"
        self._begun = False

    def feed(self, pieces: list[bytes], complete: bool) -> None:
        stream = self._stream
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if self._inflater is not None:
            inflated = self._inflater.feed(data, self._x.limits.answer_bytes)
            if inflated is None:
                self.broken(fault(Why.BROKEN_HTTP))
                return
            data = inflated
        out = stream.feed(data) if data else b""
        if complete:
            out += stream.finish(clean=True)
        self._forward(out, stream.progress if data else False)

    def broken(self, judged: Judgement) -> None:
        if not self._stream.over():
            self._forward(self._stream.finish(clean=False), False, judged)

    def complete(self) -> None:
        """Nothing came after the last finish_reason: the stream is whole without it."""
        if not self._stream.over():
            self._forward(self._stream.complete(), False)

    def _forward(self, out: bytes, progress: bool, broken: Judgement | None = None) -> None:
        """`broken` names the fault better than the stream itself, which only knows that it was cut."""
        stream = self._stream
        x = self._x
        if stream.committed and not self._begun:
            self._begun = True
            if x.operation.kept_id is not None:
                x.keep(self._reader.kept_id)
            x.commit(self._type)
        judged = stream.ended
        if judged is None:
            if out or progress:
                x.pass_on(out, progress)
            if self._reader.finished:
                x.ending()
            return
        if broken is not None and judged is not SUCCESS:
            judged = broken
        if self._begun:
            if judged is not SUCCESS:
                out += self.error_frame(judged)
            x.conclude(out, judged, self._reader.usage)
        elif judged is EMPTY:
            x.failed(judged, Refusal(200, self._type, stream.take_held()))
        elif self._reader.error is not None:
            x.failed(judged, refusal(self._reader.error, b""))
        else:
            x.failed(judged)

    def error_frame(self, judged: Judgement) -> bytes:
        """The last event of a stream that failed after its first content."""
        message = f"the answer was cut short: {judged.sentence}"
        return self._reader.error_event(message, "upstream_error", _CODES.get(judged.why))


_CODES = {why: f"backend_{why.name.lower()}" for why in Why}
