"""OpenAI's chat completions on the wire: what a request asks for, its model name spliced, its errors and lists. Pure.

Decided here: which fields are read, where the body is changed, and the shape of errors. Not here: what an answer is
worth (`openai_answer.py`). Source: https://platform.openai.com/docs/api-reference/chat.

Invariant: the body is never serialised again. Only the model's name and `stream_options` are replaced, at their byte
offsets at depth 1; everything else, unknown fields included, goes on as it came.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from pointsman.dialects.features import TASK_NAMES, UNKNOWN_TASK
from pointsman.dialects.known_body import like_one_before, messages_at, remember
from pointsman.dialects.openai_shapes import ABSENT, Head, PlainHead
from pointsman.dialects.request import ChatRequest, Complaint, Span
from pointsman.domain.judging import UNREADABLE

CHAT_PATH = "/chat/completions"
NO_MODEL = Complaint(400, "the field model is empty", None, "model")
USAGE_FIELD = "stream_options"
"""The field that we may add to a request; a 4xx that names it is our own doing."""

_KEY = re.compile(rb'[ \t\r\n]*"((?:[^"\\]|\\.)*)"[ \t\r\n]*:[ \t\r\n]*')
_NEXT = re.compile(rb"[ \t\r\n]*([,}])")
TASK_FIELD = "task_type"
_NAMES: Final = 1024
_names: Final[dict[str, bytes]] = {}
_USAGE_OPTIONS = b'{"include_usage":true}'


_head_decoder = msgspec.json.Decoder(Head)
_keys_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_options_decoder = msgspec.json.Decoder(dict[str, Any] | None)
_encode = msgspec.json.Encoder().encode


def parse_chat(body: bytes) -> ChatRequest | Complaint:
    """Reads the routed fields of a request body."""
    at = messages_at(body)
    if at:
        known = like_one_before(body, at)
        if known is not None:
            return known
    try:
        head = _head_decoder.decode(body)
    except UNREADABLE as e:
        return unreadable(e)
    if not head.model:
        return NO_MODEL
    if head.task_type is not ABSENT:
        return with_task(body, head.task_type, parse_chat)
    stream = head.stream is True
    messages = bytes(head.messages)
    spans = _search(body, head, messages, at)
    if spans is None:
        found = walk(body)
        if isinstance(found, Complaint):
            return found
        spans = found
    model_span, options_span = spans
    wants_usage = stream and head.stream_options is not ABSENT and _asks_usage(head.stream_options)
    if isinstance(wants_usage, Complaint):
        return wants_usage
    has_stop = bytes(head.stop) not in (b"", b"null", b"[]")
    request = ChatRequest(body, head.model, stream, wants_usage, has_stop, model_span, options_span)
    remember(body, at, messages, request)
    return request


_plain_decoder = msgspec.json.Decoder(PlainHead)


def parse_plain(body: bytes, *, tasked: bool = True) -> ChatRequest | Complaint:
    """`parse_chat` for operations whose body is mostly something else than `messages`. `tasked`: the field `task_type`
    is ours there."""
    try:
        head = _plain_decoder.decode(body)
    except UNREADABLE as e:
        return unreadable(e)
    if not head.model:
        return NO_MODEL
    if tasked and head.task_type is not ABSENT:
        return with_task(body, head.task_type, parse_plain)
    spans = walk(body)
    if isinstance(spans, Complaint):
        return spans
    stream = head.stream is True
    wants_usage = stream and head.stream_options is not ABSENT and _asks_usage(head.stream_options)
    if isinstance(wants_usage, Complaint):
        return wants_usage
    return ChatRequest(body, head.model, stream, wants_usage, bytes(head.stop) not in (b"", b"null", b"[]"), *spans)


def _asks_usage(stream_options: msgspec.Raw) -> bool | Complaint:
    try:
        options = _options_decoder.decode(stream_options)
    except UNREADABLE:
        return Complaint(400, "stream_options must be an object", None, USAGE_FIELD)
    return bool(options and options.get("include_usage"))


def compose(request: ChatRequest, model: str, ask_usage: bool = False) -> bytes:
    """The body for a backend that calls the model `model`; with `ask_usage` a stream is asked for its usage frame."""
    body = request.body
    start, end = request.model_span
    name = encoded_name(model)
    if not (request.stream and ask_usage) or request.wants_usage:
        return body[:start] + name + body[end:]
    span = request.options_span
    if span is None:
        brace = body.rindex(b"}")
        return body[:start] + name + body[end:brace] + b',"stream_options":' + _USAGE_OPTIONS + body[brace:]
    options = _options_decoder.decode(body[span[0] : span[1]]) or {}
    edits = sorted([(start, end, name), (*span, _encode(options | {"include_usage": True}))])
    (a, b, first), (c, d, second) = edits
    return body[:a] + first + body[b:c] + second + body[d:]


def compose_in_place(request: ChatRequest, model: str, ask_usage: bool) -> list[bytes | memoryview]:
    """`compose` in pieces, of which the large ones are the request's own bytes: nothing is copied."""
    start, end = request.model_span
    view = memoryview(request.body)
    pieces: list[bytes | memoryview] = [view[:start], encoded_name(model)]
    if not (request.stream and ask_usage) or request.wants_usage:
        return [*pieces, view[end:]]
    if request.options_span is not None:
        return [compose(request, model, ask_usage)]
    brace = request.body.rindex(b"}")
    return [*pieces, view[end:brace], b',"stream_options":' + _USAGE_OPTIONS, view[brace:]]


def splice_model(request: ChatRequest, model: str) -> bytes:
    """The body for a backend that calls the model `model`, and nothing else changed."""
    start, end = request.model_span
    return request.body[:start] + encoded_name(model) + request.body[end:]


def encoded_name(model: str) -> bytes:
    """As a JSON string. Remembered: there are as many as backends have models."""
    name = _names.get(model)
    if name is None:
        if len(_names) >= _NAMES:
            _names.clear()
        name = _names[model] = _encode(model)
    return name


def error_body(message: str, kind: str, code: str | None = None, param: str | None = None) -> bytes:
    """OpenAI's error shape. `kind` is its `type`, such as `invalid_request_error`."""
    return _encode({"error": error_value(message, kind, code, param)})


def error_value(message: str, kind: str, code: str | None = None, param: str | None = None) -> dict[str, str | None]:
    return {"message": message, "type": kind, "param": param, "code": code}


def error_event(message: str, kind: str, code: str | None = None) -> bytes:
    """The same within a stream."""
    return b"data: " + error_body(message, kind, code) + b"\n\n"


def complaint_body(complaint: Complaint) -> bytes:
    return error_body(complaint.message, "invalid_request_error", complaint.code, complaint.param)


def models_body(names: Iterable[str]) -> bytes:
    """The answer to GET /v1/models."""
    return _encode({"object": "list", "data": [_model(n) for n in names]})


def model_body(name: str) -> bytes:
    return _encode(_model(name))


def _model(name: str) -> dict[str, object]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "pointsman"}


def unreadable(error: Exception) -> Complaint:
    """What is wrong with a body whose routed fields cannot be read; `error` is one of `UNREADABLE`."""
    text = str(error)
    if not isinstance(error, msgspec.ValidationError):
        return Complaint(400, f"the body is not JSON: {text}", "invalid_json")
    if "missing required field `model`" in text:
        return Complaint(400, "the field model is missing: it names the model to use", "missing_model", "model")
    for field in ("model", "stream"):
        if text.endswith(f"`$.{field}`"):
            return Complaint(400, f"the field {field} has the wrong type: {text}", "invalid_type", field)
    return Complaint(400, f"the body must be a JSON object: {text}", "invalid_json")


def _search(body: bytes, head: Head, messages: bytes, cut: int) -> tuple[Span, Span | None] | None:
    """Finds the model's value by its key's text; None when that alone does not settle it.

    A quote within a JSON string is always escaped, so `"model"` with both quotes is a whole string token. If it stands
    once, and no key can be written with escapes (`\\u00..` is the only way to escape a letter), it is the key at
    depth 1 that the decoder has seen. The list of messages, most of the body, is left out of this search: no key at
    depth 1 is within it. It begins at `cut`, if anywhere.
    """
    if head.stream_options is not ABSENT or not cut:
        return None
    if not messages.startswith(b"[") or not body.startswith(messages, cut):
        return None
    rest = body[:cut] + body[cut + len(messages) :]
    at = rest.find(b'"model":')
    if at < 0 or rest.find(b'"model"', at + 7) >= 0 or rest.find(b"\\u00") >= 0:
        return None
    if head.stream is not msgspec.UNSET and rest.count(b'"stream"') != 1:
        return None
    start = at + 8
    start += rest.startswith(b" ", start)
    name = encoded_name(head.model)
    if not rest.startswith(name, start):
        return None
    if at >= cut:
        start += len(messages)
    return (start, start + len(name)), None


def walk(body: bytes) -> tuple[Span, Span | None] | Complaint:
    """The spans of `model` and `stream_options`, by a walk over the keys at depth 1."""
    spans = _members(body)
    if isinstance(spans, Complaint):
        return spans
    return spans["model"], spans.get(USAGE_FIELD)


def _members(body: bytes) -> dict[str, Span] | Complaint:
    """Walks the keys at depth 1 beside the decoder's view of them. They part where a key is written twice: the decoder
    keeps one, the text has two. Returns where the values are."""
    try:
        fields = _keys_decoder.decode(body)
    except UNREADABLE as e:
        return unreadable(e)
    spans: dict[str, Span] = {}
    at = body.index(b"{") + 1
    for key, raw in fields.items():
        match = _KEY.match(body, at)
        value = bytes(raw)
        if match is None or _decode_key(match[1]) != key or not body.startswith(value, match.end()):
            return _twice(key)
        spans[key] = (match.end(), match.end() + len(value))
        after = _NEXT.match(body, match.end() + len(value))
        if after is None:
            return _twice(key)
        at = after.end()
    if body[at - 1 : at] != b"}":
        return _twice(None)
    return spans


def with_task(
    body: bytes, raw: msgspec.Raw, parse: Callable[[bytes], ChatRequest | Complaint]
) -> ChatRequest | Complaint:
    """A request that says what it is for, without the field that says so: it is ours, no backend knows it."""
    name = bytes(raw)
    task = TASK_NAMES.get(name[1:-1].decode("latin-1")) if name.startswith(b'"') else None
    if task is None and name != b"null":
        return Complaint(400, UNKNOWN_TASK, "invalid_task_type", TASK_FIELD)
    spans = _members(body)
    if isinstance(spans, Complaint):
        return spans
    keys = list(spans)
    place = keys.index(TASK_FIELD)
    _, end = spans[TASK_FIELD]
    if place:
        # From the end of the value before it: the comma between them goes too.
        start = spans[keys[place - 1]][1]
    else:
        start = body.index(b"{") + 1
        end = body.index(b",", end) + 1  # there is a model after it
    request = parse(body[:start] + body[end:])
    if isinstance(request, ChatRequest):
        request.task = task
    return request


def take_task(request: ChatRequest, header: bytes) -> bool:
    """Heeds a header that says what the request is for, unless its body does; False when there is no such task."""
    task = TASK_NAMES.get(header.decode("latin-1"))
    request.task = request.task or task
    return task is not None


def _decode_key(text: bytes) -> str:
    return str(msgspec.json.decode(b'"' + text + b'"')) if b"\\" in text else text.decode(errors="replace")


def _twice(key: str | None) -> Complaint:
    where = f" near {key}" if key else ""
    return Complaint(400, f"a key of the body is written twice{where}: write each once", "duplicate_key", key)
