"""Which operation does a path name, and what is answered without asking a backend?

Decided here: paths, methods, and the answers that need no backend. Not here: how a request
travels (`relay/exchange.py`).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from pointsman.dialects.features import TASK_HEADER, UNKNOWN_TASK
from pointsman.dialects.openai import TASK_FIELD, complaint_body, model_body, models_body, take_task
from pointsman.dialects.openai_operations import OPERATIONS
from pointsman.dialects.operation import Operation
from pointsman.dialects.request import ChatRequest, Complaint
from pointsman.gateway.front.request_reader import Request
from pointsman.gateway.relay import replies
from pointsman.gateway.relay.exchange import Exchange

if TYPE_CHECKING:
    from pointsman.gateway.front.server import ClientConnection
    from pointsman.gateway.relay.datapath import DataPath

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_TRACESTATE = re.compile(rb"[\x20-\x7e]{1,512}")
_OPERATIONS = {b"/v1" + operation.path.encode(): operation for operation in OPERATIONS}
MODELS = b"/v1/models"
_NAMES_SHOWN = 50


def enter(path: DataPath, client: ClientConnection, request: Request) -> Exchange | None:
    """Begins an operation and returns its exchange, or answers at once and returns None."""
    headers = request.headers
    request_id = headers.get(b"x-request-id")
    if request_id is None or _REQUEST_ID.fullmatch(request_id) is None:
        request_id = path.new_id()
    operation = _OPERATIONS.get(request.path)
    if operation is not None:
        if request.method != b"POST":
            _no(path, client, request, request_id, _wrong_method("POST"), b"allow: POST\r\n")
            return None
        return _generate(path, client, operation, request, request_id)
    if request.path == MODELS or request.path.startswith(MODELS + b"/"):
        if request.method not in (b"GET", b"HEAD"):
            _no(path, client, request, request_id, _wrong_method("GET"), b"allow: GET, HEAD\r\n")
            return None
        _models(path, client, request, request_id)
        return None
    text = request.path[:128].decode("ascii", "replace")
    complaint = Complaint(404, f"there is no {text} here: POST /v1/chat/completions, GET /v1/models", "not_found")
    _no(path, client, request, request_id, complaint)
    return None


def _generate(
    path: DataPath, client: ClientConnection, operation: Operation, request: Request, request_id: bytes
) -> Exchange | None:
    started = path.clock()
    headers = request.headers
    if b"content-encoding" in headers and headers[b"content-encoding"].lower() != b"identity":
        complaint = Complaint(415, "send the body without Content-Encoding", "unsupported_encoding")
        _no(path, client, request, request_id, complaint)
        return None
    asked = operation.parse(request.body)
    if not isinstance(asked, ChatRequest):
        _no(path, client, request, request_id, asked)
        return None
    entry = path.roster.entry(asked.model)
    if entry is None:
        _no(path, client, request, request_id, unknown_model(path, asked.model))
        return None
    trace = b""
    fallback = True
    if len(headers) > 2:
        trace, fallback = _trace(headers), headers.get(b"x-pointsman-fallback", b"").lower() != b"none"
        task = headers.get(TASK_HEADER)
        if task is not None and not take_task(asked, task):
            _no(path, client, request, request_id, Complaint(400, UNKNOWN_TASK, "invalid_task_type", TASK_FIELD))
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
            _no(path, client, request, request_id, unknown_model(path, name))
            return
        body = model_body(name)
    extra = b"x-request-id: %b\r\n" % request_id
    answer = replies.whole(200, replies.JSON, extra, body, request.keep_alive and not path.leaving)
    client.reply(answer[: -len(body)] if request.method == b"HEAD" else answer)
    client.finished(path.clock())


def _wrong_method(method: str) -> Complaint:
    return Complaint(405, f"this path wants {method}", "method_not_allowed")


def _no(
    path: DataPath,
    client: ClientConnection,
    request: Request,
    request_id: bytes,
    complaint: Complaint,
    extra: bytes = b"",
) -> None:
    body = complaint_body(complaint)
    extra += b"x-request-id: %b\r\nx-should-retry: false\r\n" % request_id
    answer = replies.whole(complaint.status, replies.JSON, extra, body, request.keep_alive and not path.leaving)
    client.reply(answer[: -len(body)] if request.method == b"HEAD" else answer)
    path.complained(request_id, complaint)
    client.finished(path.clock())
