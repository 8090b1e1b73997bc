"""Which operation does a path name, and what is answered without asking a backend?

Decided here: paths, methods, and the answers that need no backend. Not here: how a request
travels (`relay/exchange.py`).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes

from pointsman.dialects.features import TASK_HEADER, UNKNOWN_TASK
from pointsman.dialects.openai import TASK_FIELD, complaint_body, model_body, models_body, take_task
from pointsman.dialects.openai_operations import OPERATIONS
from pointsman.dialects.openai_stored import WrongMethod
from pointsman.dialects.operation import Operation
from pointsman.dialects.request import ChatRequest, Complaint
from pointsman.gateway.front import keeping
from pointsman.gateway.front.request_reader import Request
from pointsman.gateway.relay import replies
from pointsman.gateway.relay.client import Served
from pointsman.gateway.relay.exchange import Exchange
from pointsman.gateway.relay.lookup import OPERATION, Lookup

if TYPE_CHECKING:
    from pointsman.gateway.front.server import ClientConnection
    from pointsman.gateway.relay.datapath import DataPath

_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_TRACESTATE = re.compile(rb"[\x20-\x7e]{1,512}")
_OPERATIONS: Final = {b"/v1" + operation.path.encode(): operation for operation in OPERATIONS}
MODELS: Final = b"/v1/models"
CHATS: Final = b"/v1/chat/completions"
_CONVERSATIONS = b"/v1/conversations"
_THERE_IS = f"there is POST {', '.join(p.decode() for p in _OPERATIONS)}, GET {MODELS.decode()}"
_NAMES_SHOWN = 50


def enter(path: DataPath, client: ClientConnection, request: Request) -> Served | None:
    """Begins what is asked and returns it, or answers at once and returns None."""
    headers = request.headers
    request_id = headers.get(b"x-request-id")
    if request_id is None or _REQUEST_ID.fullmatch(request_id) is None:
        request_id = path.new_id()
    operation = _OPERATIONS.get(request.path)
    if operation is not None:
        if request.method == b"POST":
            return _generate(path, client, operation, request, request_id)
        if request.method == b"GET" and request.path == CHATS:
            return _look_up(path, client, request, request_id)
        allowed = b"POST, GET" if request.path == CHATS else b"POST"
        _refuse_method(path, client, request, request_id, allowed, operation.name)
    elif request.path == MODELS or request.path.startswith(MODELS + b"/"):
        if request.method in (b"GET", b"HEAD"):
            _models(path, client, request, request_id)
        elif request.method == b"DELETE" and len(request.path) > len(MODELS) + 1:
            return _look_up(path, client, request, request_id)
        else:
            _refuse_method(path, client, request, request_id, b"GET, HEAD, DELETE", "models")
    else:
        return _look_up(path, client, request, request_id)
    return None


def _look_up(path: DataPath, client: ClientConnection, request: Request, request_id: bytes) -> Lookup | None:
    """Begins to look for what a backend keeps, if that is what the address names."""
    wanted = keeping.wanted(path, request) if request.path.startswith(b"/v1/") else None
    if wanted is None:
        _no(path, client, request, request_id, unknown_url(request.method, request.path))
    elif isinstance(wanted, Complaint):
        _no(path, client, request, request_id, wanted, operation=OPERATION)
    elif isinstance(wanted, WrongMethod):
        _refuse_method(path, client, request, request_id, ", ".join(wanted.allowed).encode(), OPERATION)
    else:
        question, places = wanted
        path.meter.request_started()
        trace = _trace(request.headers)
        return Lookup(path, client, question, places, request_id, trace, request.keep_alive, path.clock())
    return None


def unknown_url(method: bytes, path: bytes) -> Complaint:
    """What OpenAI says of an address that it does not have, and what there is instead."""
    text = f"{method.decode('ascii', 'replace')} {path[:128].decode('ascii', 'replace')}"
    if b"/v1" + path in _OPERATIONS or b"/v1" + path == MODELS:
        hint = "the base URL of a client ends in /v1 here"
    elif path.startswith(_CONVERSATIONS):
        hint = "conversations are not relayed: ask the backend itself"
    else:
        hint = _THERE_IS
    return Complaint(404, f"Unknown request URL: {text}: {hint}", "unknown_url")


def _generate(
    path: DataPath, client: ClientConnection, operation: Operation, request: Request, request_id: bytes
) -> Exchange | None:
    started = path.clock()
    headers = request.headers
    if b"content-encoding" in headers and headers[b"content-encoding"].lower() != b"identity":
        complaint = Complaint(415, "send the body without Content-Encoding", "unsupported_encoding")
        _no(path, client, request, request_id, complaint, operation=operation.name)
        return None
    asked = operation.parse(request.body)
    if not isinstance(asked, ChatRequest):
        _no(path, client, request, request_id, asked, operation=operation.name)
        return None
    entry = path.roster.entry(asked.model)
    if entry is None:
        _no(path, client, request, request_id, unknown_model(path, asked.model), operation=operation.name)
        return None
    trace = b""
    fallback = True
    if len(headers) > 2:
        trace, fallback = _trace(headers), headers.get(b"x-pointsman-fallback", b"").lower() != b"none"
        task = headers.get(TASK_HEADER)
        if task is not None and not take_task(asked, task):
            complaint = Complaint(400, UNKNOWN_TASK, "invalid_task_type", TASK_FIELD)
            _no(path, client, request, request_id, complaint, operation=operation.name)
            return None
    exchange = Exchange(
        path, client, operation, asked, entry, headers, request_id, trace, fallback, request.keep_alive, started
    )
    path.meter.request_started()
    return exchange


def _trace(headers: dict[bytes, bytes]) -> bytes:
    """The W3C trace headers that go on, each with its line end."""
    trace = b""
    traceparent = headers.get(b"traceparent")
    if traceparent is not None and _TRACEPARENT.fullmatch(traceparent):
        trace = b"traceparent: %b\r\n" % traceparent
        tracestate = headers.get(b"tracestate")
        if tracestate is not None and _TRACESTATE.fullmatch(tracestate):
            trace += b"tracestate: %b\r\n" % tracestate
    return trace


def unknown_model(path: DataPath, model: str) -> Complaint:
    names = path.state.table.spoken
    shown = ", ".join(names[:_NAMES_SHOWN]) + (", …" if len(names) > _NAMES_SHOWN else "")
    there = f"there are: {shown}" if names else "no route serves any model yet"
    return Complaint(404, f"no route serves the model {model[:128]!r}; {there}", "model_not_found", "model")


def _models(path: DataPath, client: ClientConnection, request: Request, request_id: bytes) -> None:
    names = path.state.table.names
    if request.path in (MODELS, MODELS + b"/"):
        body = models_body(sorted(names))
    else:
        name = unquote_to_bytes(request.path[len(MODELS) + 1 :]).decode("utf-8", "replace")
        if path.state.table.find(name) is None:
            _no(path, client, request, request_id, unknown_model(path, name), operation="models")
            return
        body = model_body(name)
    extra = b"x-request-id: %b\r\n" % request_id
    answer = replies.whole(200, replies.JSON, extra, body, _alive(path, request))
    client.reply(answer[: -len(body)] if request.method == b"HEAD" else answer)
    path.answered(request_id, "models")
    client.finished(path.clock())


def _refuse_method(
    path: DataPath, client: ClientConnection, request: Request, request_id: bytes, allowed: bytes, operation: str
) -> None:
    allow = b"allow: %b, OPTIONS\r\n" % allowed
    if request.method == b"OPTIONS":
        client.reply(replies.nothing(allow + b"x-request-id: %b\r\n" % request_id, _alive(path, request)))
        path.answered(request_id, operation)
        client.finished(path.clock())
        return
    where = f"{request.method.decode('ascii', 'replace')} on {request.path[:128].decode('ascii', 'replace')}"
    complaint = Complaint(405, f"Not allowed to {where}: it takes {allowed.decode()}", "method_not_supported")
    _no(path, client, request, request_id, complaint, allow, operation)


def _alive(path: DataPath, request: Request) -> bool:
    return request.keep_alive and not path.leaving


def _no(
    path: DataPath,
    client: ClientConnection,
    request: Request,
    request_id: bytes,
    complaint: Complaint,
    extra: bytes = b"",
    operation: str = "",
) -> None:
    body = complaint_body(complaint)
    extra += b"x-request-id: %b\r\nx-should-retry: false\r\n" % request_id
    answer = replies.whole(complaint.status, replies.JSON, extra, body, _alive(path, request))
    client.reply(answer[: -len(body)] if request.method == b"HEAD" else answer)
    path.complained(request_id, complaint, operation)
    client.finished(path.clock())
