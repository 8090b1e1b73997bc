"""The faults of failover.md §6 as data: what goes over the wire, and what that must come to. Nothing else is decided
here; how often each is met is `fate.py`'s."""

from __future__ import annotations

import asyncio
import gzip
import time
from dataclasses import dataclass
from email.utils import formatdate
from enum import Enum

from pointsman.conform.answer_scenarios import (
    CALLER,
    DENIED,
    HTML,
    LIMIT,
    LOADING,
    NO_MODEL,
    OVERFLOW,
    QUEUE_FULL,
    QUOTA,
)
from pointsman.conform.connection_scenarios import (
    CHUNKED,
    JSON,
    SSE,
    STRANGER,
    endless_error,
    endless_header,
    endless_json,
)
from pointsman.conform.stream_scenarios import ERROR, HALF_CHARACTER, PING, endless_stream
from pointsman.simulator.behaviour import (
    Act,
    Behaviour,
    Pause,
    Piece,
    Raw,
    Words,
    answers,
    framed,
    says,
    sends,
    streams,
)
from pointsman.simulator.connection import Connection, Request
from pointsman.simulator.openai_bytes import DONE, FINISH, ROLE, completion, delta, error, event


class End(Enum):
    """What an attempt that meets the fault comes to."""

    WHOLE = "its answer goes to the client"
    ON = "the next candidate is asked"
    CALLER = "the error goes to the client as it is"
    BREAK = "the start of the answer goes out, then an error event"
    ABORT = "the start of the answer goes out, then the connection breaks"
    AGAIN = "the same endpoint is asked once more, without the field that we added"


@dataclass(frozen=True)
class Fault:
    """`whys` are the reasons that a gateway may rightly give."""

    name: str
    behave: Behaviour
    end: End
    verdict: str
    whys: tuple[str, ...]
    stream: bool | None = None
    """Only for streams, only for JSON; None for both."""
    weight: float = 1.0
    status: int = 0
    """Of the answer that is passed on when nobody has a better one (Unfit, empty, Caller)."""
    body: bytes = b""
    words: int = 0
    """Of the answer's words, how many go out before it breaks."""
    lossy: bool = False
    """It ends with a reset, which may overtake what was sent before it."""
    silent_head: bool = False
    """Not one byte comes: on a connection that was used before, the request is rightly sent again."""
    hasty: bool = False
    """It answers before it has read the request's body."""
    bars: float = 0.0
    """Seconds for which nobody may ask this backend for this model again."""
    barred_at_most: float = 0.0
    """Seconds for which a gateway may leave it out on account of this."""


BROKEN = ("BrokenHttp",)
SERVER = ("ServerError",)
CUT = ("Cut", "Reset")
STALL = ("FirstTokenTimeout", "AnswerTimeout")
EMPTY_JSON = completion("")
NO_OPTIONS = error("Unrecognized request argument supplied: stream_options", None, "invalid_request_error")
TEXT = "text/plain"


def on(name: str, behave: Behaviour, *whys: str, verdict: str = "Failure", **more: object) -> Fault:
    return Fault(name, behave, End.ON, verdict, whys, **more)  # type: ignore[arg-type]


def busy(name: str, behave: Behaviour, why: str = "RateLimited", bars: float = 0.2, most: float = 4.5) -> Fault:
    return on(name, behave, why, verdict="Busy", bars=bars, barred_at_most=most)


def rare(name: str, verdict: str, why: str, behave: Behaviour, bars: float, most: float) -> Fault:
    return on(name, behave, why, verdict=verdict, bars=bars, barred_at_most=most, weight=0.04)


def unfit(name: str, why: str, status: int, body: bytes, content_type: str = "application/json") -> Fault:
    return on(name, answers(status, body, content_type), why, verdict="Unfit", status=status, body=body)


def broken(name: str, verdict: str, why: str, *pieces: Piece, lossy: bool = False, weight: float = 1.0) -> Fault:
    """After the second word of a stream."""
    behave = streams(ROLE, Words(2), *pieces)
    whys = (why, *CUT) if lossy else (why,)
    return Fault(name, behave, End.BREAK, verdict, whys, stream=True, words=2, lossy=lossy, weight=weight)


def good(name: str, behave: Behaviour, stream: bool | None = None, weight: float = 1.0) -> Fault:
    return Fault(name, behave, End.WHOLE, "Success", (), stream=stream, weight=weight)


async def busy_until_a_date(connection: Connection, request: Request) -> None:
    """HTTP dates have whole seconds: it is a pause of one to two."""
    date = formatdate(time.time() + 2, usegmt=True)
    await connection.answer(429, LIMIT, "application/json", f"retry-after: {date}")


async def needs_no_usage(connection: Connection, request: Request) -> None:
    if request.wants_usage:
        await connection.answer(400, NO_OPTIONS, "application/json")
    else:
        await says(connection, request)


async def hasty_500(connection: Connection, request: Request) -> None:
    await connection.answer(500, error("it did not even read the request"), "application/json")


async def leaves_after(connection: Connection, request: Request) -> None:
    """A good answer, and the connection that was promised to stay ends right behind it."""
    await says(connection, request)
    connection.cut()


async def one_write(connection: Connection, request: Request) -> None:
    """Head, answer and the stray answer of somebody else together."""
    body = completion(request.answer)
    two = (JSON + b"content-length: %d\r\n\r\n%b" % (len(b), b) for b in (body, STRANGER))
    await connection.send(b"".join(two))


async def speaks_while_idle(connection: Connection, request: Request) -> None:
    """A good answer; a moment later, unasked, what servers say before they close an idle connection. A request that is
    on its way by then takes it for its answer, as it must: HTTP/1.1 has no way to tell."""
    await says(connection, request)
    await asyncio.sleep(0.01)
    await connection.send(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
    connection.cut()


async def compressed(connection: Connection, request: Request) -> None:
    await connection.answer(
        200, gzip.compress(completion(request.answer)), "application/json", "content-encoding: gzip"
    )


def cut_into(size: int) -> Behaviour:
    """The whole stream, in pieces of so many bytes, with CRLF."""

    async def behave(connection: Connection, request: Request) -> None:
        frames = [ROLE, *(delta(w) for w in request.words), FINISH, DONE]
        data = b"".join(map(event, frames)).replace(b"\n", b"\r\n")
        await connection.open_stream()
        for start in range(0, len(data), size):
            await connection.chunk(data[start : start + size])
        await connection.end_stream()

    return behave


SLOWLY: tuple[Piece, ...] = (Words(1), Pause(0.1), Words(2, 1), Pause(0.1), Words(None, 2))
GOOD = (
    good("none", says, weight=20),
    good("HTTP/1.0, ends by closing", framed(b"HTTP/1.0 200 OK\r\n", close=True), False),
    good("JSON in chunks", framed(JSON, chunked=True), False),
    good("103 before the answer", framed(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + JSON), False),
    good("100 before the answer", framed(b"HTTP/1.1 100 Continue\r\n\r\n" + JSON), False),
    good("gzip, unasked", compressed, False),
    good("bytes behind the answer", one_write, False),
    good("bytes while idle", speaks_while_idle),
    good("closes behind the answer", leaves_after),
    good("no [DONE]", streams(ROLE, Words(), FINISH, Act.END), True),
    good("cut behind the finish_reason", streams(ROLE, Words(), FINISH, Act.CUT), True),
    good("slow first token", streams(Pause(0.3), ROLE, Words(), FINISH, DONE, Act.END), True, 0.3),
    good("slow after the role", streams(ROLE, Pause(0.3), Words(), FINISH, DONE, Act.END), True, 0.3),
    good("slow between tokens", streams(ROLE, *SLOWLY, FINISH, DONE, Act.END), True, 0.3),
    good(
        "comments between tokens",
        streams(PING, ROLE, PING, Words(2), PING, Words(None, 2), FINISH, DONE, Act.END),
        True,
    ),
    good("frames cut anywhere", cut_into(7), True, 0.5),
)
MOVES_ON = (
    on("reset before headers", sends(Act.RESET), *CUT, silent_head=True, lossy=True),
    on("closed before headers", sends(Act.CUT), "Reset", silent_head=True),
    on("reset mid-headers", sends(b"HTTP/1.1 200 OK\r\ncontent-ty", Act.RESET), *CUT, silent_head=True, lossy=True),
    on("not HTTP", sends(b"SSH-2.0-OpenSSH_9.7\r\n\r\n", Act.CUT), *BROKEN),
    on("huge header", sends(JSON + b"x-big: " + b"a" * 600_000, Act.CUT), "TooLarge", *BROKEN, weight=0.1),
    on("endless header", endless_header, "TooLarge", weight=0.1),
    on("chunked and content-length", sends(JSON + b"content-length: 5\r\n" + CHUNKED + b"0\r\n\r\n", Act.CUT), *BROKEN),
    on("malformed chunk", sends(SSE + CHUNKED + b"zz\r\nhello\r\n", Act.CUT), *BROKEN, stream=True),
    on("malformed chunk in JSON", sends(JSON + CHUNKED + b"zz\r\nhello\r\n", Act.CUT), *BROKEN, stream=False),
    on("unknown encoding", answers(200, b"{}", "application/json", "content-encoding: br"), *BROKEN),
    on("content-length too long", framed(JSON, more=50), "Cut", stream=False),
    on("content-length too short", framed(JSON, more=-50), "BrokenJson", stream=False),
    on("cut in JSON", sends(JSON + b'content-length: 99\r\n\r\n{"choices":', Act.CUT), "Cut", stream=False),
    on("answers before the body was sent", hasty_500, *SERVER, hasty=True, weight=2),
    on("500", answers(500, error("CUDA error: out of memory")), *SERVER),
    on("500 in HTML", answers(500, HTML, "text/html"), *SERVER),
    on("502 in HTML", answers(502, HTML, "text/html"), *SERVER),
    on("504", answers(504, b"", TEXT), *SERVER),
    on("408", answers(408, b"", TEXT), *SERVER),
    on("endless error", endless_error, *SERVER, weight=0.05),
    on("302", answers(302, b"", TEXT, "location: http://elsewhere.invalid/"), "Redirect"),
    on("400 in HTML", answers(400, HTML, "text/html"), "NotJson"),
    on("HTML under 200", answers(200, HTML, "text/html"), "NotJson"),
    on("HTML called JSON", answers(200, HTML), "NotJson", stream=False),
    on("malformed JSON", answers(200, b'{"choices": [}'), "BrokenJson", stream=False),
    on("truncated JSON", answers(200, completion("half an ans")[:-40]), "BrokenJson", stream=False),
    on("stream for JSON", streams(ROLE, Act.END), "BrokenStream", stream=False),
    on("JSON for a stream", answers(200, completion("no stream")), "BrokenStream", stream=True),
    on("error under 200", answers(200, error("engine core died")), "ErrorEvent", stream=False),
    on("error event first", streams(ERROR, DONE, Act.END), "ErrorEvent", stream=True),
    on("error event after the role", streams(ROLE, ERROR, DONE, Act.END), "ErrorEvent", stream=True),
    on("cut before content", streams(ROLE, Act.CUT), "Cut", stream=True),
    on("reset before content", streams(ROLE, Act.RESET), *CUT, stream=True, lossy=True),
    on("cut within the first character", streams(ROLE, HALF_CHARACTER, Act.CUT), "Cut", stream=True),
    on("malformed frame first", streams(Raw(b"data: {not json\n\n"), Act.END), "BrokenStream", stream=True),
    on("quiet frames for ever", endless_stream, "TooLarge", stream=True, weight=0.1),
    on("empty answer", answers(200, EMPTY_JSON), "EmptyAnswer", stream=False, status=200, body=EMPTY_JSON),
    on("clean end, no content", streams(ROLE, FINISH, DONE, Act.END), "EmptyAnswer", stream=True, status=200),
    on("[DONE], nothing else", streams(DONE, Act.END), "EmptyAnswer", stream=True, status=200),
    on("ends without a frame", streams(Act.END), "EmptyAnswer", stream=True, status=200),
    busy("429", answers(429, LIMIT)),
    busy("429, Retry-After 1", answers(429, LIMIT, "application/json", "retry-after: 1"), bars=1.0, most=1.2),
    busy("429, Retry-After a date", busy_until_a_date, bars=0.9, most=2.3),
    busy("529", answers(529, error("Overloaded", kind="overloaded_error"))),
    busy("503, queue full", answers(503, QUEUE_FULL), "QueueFull"),
    on("503, loading", answers(503, LOADING), "Loading", verdict="Loading", weight=0.3, barred_at_most=5.2),
    unfit("400, context overflow", "ContextOverflow", 400, OVERFLOW),
    unfit("413", "TooLarge", 413, HTML, "text/html"),
    unfit("404, no such path", "UnknownOperation", 404, b'{"detail":"Not Found"}'),
    rare("404, no such model", "ModelMissing", "ModelNotFound", answers(404, NO_MODEL), 30.0, 30.5),
    rare("400, no such model", "ModelMissing", "ModelNotFound", answers(400, NO_MODEL), 30.0, 30.5),
    rare("401", "Denied", "Unauthorized", answers(401, DENIED), 60.0, 601.0),
    rare("402", "Denied", "PaymentRequired", answers(402, error("Insufficient Balance")), 60.0, 601.0),
    rare("429, quota used up", "Denied", "PaymentRequired", answers(429, QUOTA), 60.0, 601.0),
    rare("403", "Denied", "Forbidden", answers(403, error("Country not supported")), 0.0, 601.0),
    on("silence", sends(Act.SILENCE), *STALL, verdict="Stalled", weight=0.15),
    on("headers, then silence", sends(JSON + b"content-length: 99\r\n\r\n", Act.SILENCE), *STALL,
       verdict="Stalled", stream=False, weight=0.1),
    on("role, then silence", streams(ROLE, Act.SILENCE), *STALL, verdict="Stalled", stream=True, weight=0.1),
    on("comments for ever", streams(ROLE, *(PING, Pause(0.1)) * 40), *STALL, verdict="Stalled", stream=True,
       weight=0.1),
)  # fmt: skip
LAST = (
    Fault("400, of the caller", answers(400, CALLER), End.CALLER, "Caller", ("BadRequest",), status=400, body=CALLER),
    Fault("422, of the caller", answers(422, CALLER), End.CALLER, "Caller", ("BadRequest",), status=422, body=CALLER),
    broken("error event after content", "Failure", "ErrorEvent", ERROR, Act.END),
    broken("cut mid-content", "Failure", "Cut", Act.CUT),
    broken("reset mid-content", "Failure", "Cut", Act.RESET, lossy=True),
    broken("cut within a character", "Failure", "Cut", HALF_CHARACTER, Act.CUT),
    broken("clean end mid-answer", "Failure", "Incomplete", Act.END),
    broken("[DONE] mid-answer", "Failure", "Incomplete", DONE, Act.END),
    broken("malformed frame mid-answer", "Failure", "BrokenStream", Raw(b"data: {not json\n\n"), Act.END),
    broken("silence mid-answer", "Stalled", "IdleTimeout", Act.SILENCE, weight=0.15),
    broken("comments mid-answer for ever", "Stalled", "IdleTimeout", *(PING, Pause(0.1)) * 40, weight=0.15),
    Fault("endless JSON", endless_json, End.ABORT, "Stalled", ("IdleTimeout",), stream=False, weight=0.02),
    Fault(
        "knows no stream_options",
        needs_no_usage,
        End.AGAIN,
        "Unfit",
        ("AddedField",),
        stream=True,
        weight=0.3,
        status=400,
        body=NO_OPTIONS,
    ),
)
FAULTS = {f.name: f for f in (*GOOD, *MOVES_ON, *LAST)}
assert len(FAULTS) == len(GOOD) + len(MOVES_ON) + len(LAST)
