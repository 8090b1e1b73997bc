"""OpenAI's responses, the answer: content, ends, usage and errors, as JSON and as events. Pure.

Decided here: what counts as content, when a response is complete and when it is empty (failover.md §1), and whether a
backend honoured what the request continues. Not here: the request (`openai_responses.py`), how bytes become frames
(`sse.py`). Source: https://platform.openai.com/docs/api-reference/responses-streaming.

- Content is a delta of text, reasoning, refusal or arguments, an item that is a tool's call, or an output that holds
  one of them. Created, in progress, added and empty parts are not.
- A stream is complete with `response.completed` or `response.incomplete`; there is no `[DONE]`.
- A backend that keeps no responses ignores `previous_response_id` and answers as if nothing had been said before. Its
  answer shows it: the id is not named again. Such an answer never reaches the client as a good one.
"""

from __future__ import annotations

from dataclasses import replace

import msgspec

from pointsman.dialects.openai import error_body, error_value
from pointsman.dialects.openai_answer import BROKEN_JSON, ERROR_INSIDE, NOTHING
from pointsman.dialects.request import ChatRequest
from pointsman.dialects.sse import Frame
from pointsman.dialects.usage import Usage
from pointsman.domain.judging import UNREADABLE, Said, said_in
from pointsman.domain.verdict import EMPTY, FORGOTTEN, INCOMPLETE, SUCCESS, Judgement, Verdict, Why

_ABSENT = msgspec.Raw()
_OTHER_JSON = Judgement(Verdict.FAILURE, Why.BROKEN_JSON, "its answer is no response", by_answer=True)
_UNDER_WAY = frozenset(("queued", "in_progress"))
_QUIET_ITEMS = frozenset(("message", "reasoning"))
FORGETFUL = Said(
    "", judged=FORGOTTEN, shown=error_body(
        "the backend ignores previous_response_id and conversation: it keeps no responses. Send the whole conversation "
        "as input", "invalid_request_error", "previous_response_not_found", "previous_response_id",
    ),
)  # fmt: skip
"""Of a backend that ignored what the request continues: it does not say so itself."""


class _Usage(msgspec.Struct, gc=False):
    input_tokens: int | None = None
    output_tokens: int | None = None


class _Named(msgspec.Struct, gc=False):
    id: str = ""


class _Part(msgspec.Struct, gc=False):
    """A part of a message or of a reasoning."""

    text: msgspec.Raw = _ABSENT
    refusal: msgspec.Raw = _ABSENT

    def speaks(self) -> bool:
        return bytes(self.text) not in NOTHING or bytes(self.refusal) not in NOTHING


class _Item(msgspec.Struct, gc=False):
    type: str = "message"
    content: msgspec.Raw = _ABSENT
    summary: msgspec.Raw = _ABSENT

    def speaks(self) -> bool:
        return self.type not in _QUIET_ITEMS or _any_speaks(self.content) or _any_speaks(self.summary)


class _Reason(msgspec.Struct, gc=False):
    reason: str | None = None


class _Response(msgspec.Struct, gc=False):
    id: str = ""
    status: str | None = None
    previous_response_id: str | None = None
    conversation: _Named | None = None
    output: list[_Item] | None = None
    incomplete_details: _Reason | None = None
    usage: msgspec.Raw = _ABSENT
    error: msgspec.Raw = _ABSENT

    def honours(self, request: ChatRequest) -> bool:
        care = request.care
        if care is None:
            return True
        if care.previous and self.previous_response_id != care.previous:
            return False
        return not care.conversation or (self.conversation is not None and self.conversation.id != "")

    def speaks(self) -> bool:
        return any(item.speaks() for item in self.output or ())

    def explains_silence(self) -> bool:
        """Is there a reason for a response without content?"""
        if self.status in _UNDER_WAY:
            return True
        match self.incomplete_details.reason if self.incomplete_details else "":
            case "content_filter":
                return True
            case "max_output_tokens":
                spent = self.counted()
                return spent is None or spent.completion_tokens != 0
        return False

    def counted(self) -> Usage | None:
        return counted(self.usage)


class _Failure(msgspec.Struct, gc=False):
    """An `error` event, which has its words at the top or under `error`, or a failed response."""

    message: str | None = None
    code: str | int | None = None
    param: str | None = None
    error: _Failure | None = None


class _Event(msgspec.Struct, gc=False):
    """Most events are deltas: what is in the others is read only when it matters."""

    type: str = ""
    delta: msgspec.Raw = _ABSENT
    text: msgspec.Raw = _ABSENT
    item: msgspec.Raw = _ABSENT
    response: msgspec.Raw = _ABSENT
    error: msgspec.Raw = _ABSENT


_decode_failure = msgspec.json.Decoder(_Failure).decode
_decode_event = msgspec.json.Decoder(_Event).decode
_decode_item = msgspec.json.Decoder(_Item).decode
_decode_parts = msgspec.json.Decoder(list[_Part] | None).decode
_decode_usage = msgspec.json.Decoder(_Usage | None).decode
_decode_response = msgspec.json.Decoder(_Response).decode
_encode = msgspec.json.Encoder().encode


def counted(raw: msgspec.Raw) -> Usage | None:
    """A usage that is not as it should be is unknown: no reason to refuse an answer."""
    try:
        usage = _decode_usage(raw) if raw is not _ABSENT and bytes(raw) else None
    except UNREADABLE:
        return None
    return Usage(usage.input_tokens, usage.output_tokens) if usage is not None else None


class ResponseStream:
    """Reads the events of one stream."""

    __slots__ = (
        "_events", "_last", "_request", "content", "done_event", "error", "finished", "kept_id", "usage",
    )  # fmt: skip

    def __init__(self, request: ChatRequest) -> None:
        self.done_event = b""
        self._request = request
        self._events = 0
        self._last: _Response | None = None
        self.content = False
        self.error: Said | None = None
        self.finished = False
        """`response.completed` or `response.incomplete` has come."""
        self.kept_id = ""
        self.usage: Usage | None = None

    def text(self) -> bytes:
        """No event is like another: they are numbered."""
        return b""

    def read(self, data: bytes, event: str) -> Frame:
        """`data` is the joined data of one event, `event` its type."""
        if data.startswith(b"[DONE]"):
            # Not OpenAI's, but servers that write it for chats may write it here.
            return Frame.DONE
        try:
            value = _decode_event(data)
        except UNREADABLE:
            return Frame.BROKEN
        self._events += 1
        kind = value.type or event
        if kind.endswith(".delta"):
            return self._is(bytes(value.delta) not in NOTHING)
        if kind == "error" or (bytes(value.error) not in NOTHING and not kind.startswith("response.")):
            return self._failed(shown(said_in(data), data))
        if value.response is not _ABSENT:
            return self._lifecycle(kind, bytes(value.response))
        if value.item is not _ABSENT:
            return self._is(_item_speaks(bytes(value.item)))
        # Steps of a tool that the backend runs: it works, and may have acted.
        return self._is("_call." in kind or bytes(value.text) not in NOTHING)

    def verdict(self) -> Judgement:
        """Of a stream that ended by itself, cleanly."""
        if self.content:
            return SUCCESS if self.finished else INCOMPLETE
        if self.finished and self._last is not None and self._last.explains_silence():
            return SUCCESS
        return EMPTY

    def error_event(self, message: str, kind: str, code: str | None) -> bytes:
        """The last event of a stream that fails: OpenAI's `error`, with the same once more as an object under `error`,
        where its clients look for it."""
        inner = error_value(message, kind, code)
        value = {"type": "error", "code": code, "message": message, "param": None, "sequence_number": self._events}
        return b"event: error\ndata: " + _encode(value | {"error": inner}) + b"\n\n"

    def _failed(self, said: Said) -> Frame:
        self.error = said
        return Frame.ERROR

    def _is(self, content: bool) -> Frame:
        if content:
            self.content = True
            return Frame.CONTENT
        return Frame.QUIET

    def _lifecycle(self, kind: str, raw: bytes) -> Frame:
        try:
            response = _decode_response(raw)
        except UNREADABLE:
            return Frame.BROKEN
        self._last = response
        self.kept_id = response.id or self.kept_id
        if kind == "response.failed":
            return self._failed(failed_said(raw))
        if not self.content and not response.honours(self._request):
            return self._failed(FORGETFUL)
        if kind in ("response.completed", "response.incomplete"):
            self.finished = True
            self.usage = response.counted()
            if not self.content:
                return self._is(response.speaks())
        return Frame.QUIET


def judge_response(body: bytes, request: ChatRequest) -> tuple[Judgement, Usage | None, Said | None]:
    """A whole JSON answer under 2xx: its verdict, its usage, and what it said if it is an error after all."""
    try:
        response = _decode_response(body)
    except msgspec.ValidationError:
        return _OTHER_JSON, None, None
    except UNREADABLE:
        return BROKEN_JSON, None, None
    if bytes(response.error) not in NOTHING or response.status == "failed":
        return ERROR_INSIDE, None, failed_said(body)
    if not response.honours(request):
        return FORGOTTEN, None, FORGETFUL
    if response.speaks() or response.explains_silence():
        return SUCCESS, response.counted(), None
    return EMPTY, None, None


def response_id(body: bytes) -> str:
    """The id of a whole answer; empty when it has none."""
    try:
        return _decode_response(body).id
    except UNREADABLE:
        return ""


def failed_said(response: bytes) -> Said:
    """What a failed response says of itself. Codes such as `invalid_prompt` are about the caller's own request."""
    said = said_in(response)
    if said.status == 0 and said.code.startswith("invalid_"):
        said = replace(said, status=400)
    return shown(said, response)


def shown(said: Said, value: bytes) -> Said:
    """With what a failed response or an error event says in the shape of an answer with an error status."""
    try:
        found = _decode_failure(value)
    except UNREADABLE:
        found = _Failure()
    inner = found.error or found
    message = inner.message or "the response failed"
    code = None if inner.code is None else str(inner.code)
    return replace(said, shown=error_body(message, "invalid_request_error", code, inner.param))


def _any_speaks(parts: msgspec.Raw) -> bool:
    if parts is _ABSENT:
        return False
    try:
        return any(part.speaks() for part in _decode_parts(parts) or ())
    except UNREADABLE:
        return bytes(parts) not in NOTHING


def _item_speaks(raw: bytes) -> bool:
    try:
        return _decode_item(raw).speaks()
    except UNREADABLE:
        return False
