"""The heads of our answers to clients, as bytes."""

from __future__ import annotations

from http import HTTPStatus
from math import ceil
from typing import Final

from pointsman.dialects.openai import error_body
from pointsman.domain.attempts import Surrender, Tried
from pointsman.gateway.relay.timing import timing

_LINES: Final = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n".encode() for s in HTTPStatus}
JSON: Final = b"application/json"
EVENTS: Final = b"text/event-stream; charset=utf-8"
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK: Final = b"0\r\n\r\n"
CLOSE: Final = b"connection: close\r\n"


def status_line(status: int) -> bytes:
    line = _LINES.get(status)
    return line if line is not None else b"HTTP/1.1 %d Answer\r\n" % status


def whole(status: int, content_type: bytes, extra: bytes, body: bytes, keep_alive: bool) -> bytes:
    """A whole answer. `extra` holds further header lines, each with its line end."""
    return b"%bcontent-type: %b\r\n%bcontent-length: %d\r\n%b\r\n%b" % (
        status_line(status), content_type, extra, len(body), b"" if keep_alive else CLOSE, body,
    )  # fmt: skip


def nothing(extra: bytes, keep_alive: bool) -> bytes:
    """An answer that has no body and says so by its status."""
    return b"%b%b%b\r\n" % (status_line(204), extra, b"" if keep_alive else CLOSE)


def surrendered(given: Surrender, tried: list[Tried], request_id: bytes, keep_alive: bool, notes: bytes) -> bytes:
    """The whole answer when no backend gave one. `notes`: further header lines."""
    extra = b"x-pointsman-attempts: %d\r\nx-request-id: %b\r\n%b" % (len(tried), request_id, notes)
    if tried:
        extra += timing(tried, "", 0.0)
    if given.retry_after is not None:
        extra += b"retry-after: %d\r\n" % ceil(given.retry_after)
    if given.retry_useless:
        extra += b"x-should-retry: false\r\n"
    return whole(given.status, JSON, extra, error_body(given.message, "upstream_error", given.code), keep_alive)


def gave_up(given: Surrender, asked: int, request_id: bytes, keep_alive: bool) -> bytes:
    """The whole answer to who asked for what could not be had of any backend."""
    extra = b"x-pointsman-attempts: %d\r\nx-request-id: %b\r\n" % (asked, request_id)
    if given.retry_after is not None:
        extra += b"retry-after: %d\r\n" % ceil(given.retry_after)
    if given.retry_useless:
        extra += b"x-should-retry: false\r\n"
    kind = "invalid_request_error" if given.status == 404 else "upstream_error"
    return whole(given.status, JSON, extra, error_body(given.message, kind, given.code), keep_alive)


def stream_head(content_type: bytes, extra: bytes, *, chunked: bool, keep_alive: bool) -> bytes:
    """The head of an answer whose length is not known yet."""
    return b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncache-control: no-cache\r\n%b%b%b\r\n" % (
        content_type,
        extra,
        b"transfer-encoding: chunked\r\n" if chunked else b"",
        b"" if keep_alive else CLOSE,
    )


def comment(text: str) -> bytes:
    """A comment within a stream of events."""
    return f": {text}\n\n".encode()


def as_comments(headers: bytes) -> bytes:
    """Header lines that came too late to be headers, as comments within a stream of events."""
    return b"".join(b": %b\n" % line for line in headers.split(b"\r\n") if line) + b"\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)
