"""Every fault of failover.md §6, injected for real: what verdict it gets, where the request goes, what the client sees.

Each row runs twice: with a good backend behind the faulty one, and with the faulty one alone.
"""

from __future__ import annotations

import gzip
import time
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any

import pytest
from tests.support.raw_client import chat
from tests.support.running_gateway import SHORT, external, gateway, route, table
from tests.support.upstream import says

from pointsman.simulator.behaviour import Act, Behaviour, Pause, Raw, answers, sends, streams
from pointsman.simulator.openai_bytes import ROLE, completion, delta, error

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
SSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n\r\n"
HTML = b"<html><body><h1>It works</h1></body></html>"


@dataclass(frozen=True)
class Fault:
    name: str
    behave: Behaviour
    verdict: str
    why: str
    stream: bool = False
    status: int = 502
    """What the client sees when there is nobody else."""

    @property
    def timeouts(self) -> dict[str, str]:
        return SHORT if self.verdict == "Stalled" else {}


def both(name: str, behave: Behaviour, verdict: str, why: str, status: int = 502) -> list[Fault]:
    return [Fault(f"{name}-{kind}", behave, verdict, why, kind == "stream", status) for kind in ("json", "stream")]


def only(name: str, stream: bool, behave: Behaviour, verdict: str, why: str, status: int = 502) -> list[Fault]:
    return [Fault(name, behave, verdict, why, stream, status)]


def frame(content: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(content), content)


def whole(data: bytes, *before: bytes) -> Behaviour:
    """A JSON answer in one write, with what stands before it."""
    return sends(b"".join(before) + HEAD + b"content-length: %d\r\n\r\n%b" % (len(data), data))


QUEUE_FULL = "server busy, please try again.  maximum pending requests exceeded"
QUOTA = error("You exceeded your current quota", "insufficient_quota")
FAULTS: list[Fault] = [
    # the connection
    *both("reset before headers", sends(Act.RESET), "Failure", "Reset"),
    *both("closed before headers", sends(Act.CUT), "Failure", "Reset"),
    *both("reset mid-headers", sends(b"HTTP/1.1 200 OK\r\ncontent-ty", Act.RESET), "Failure", "Cut"),
    *both("not HTTP", sends(b"SSH-2.0-OpenSSH_9.7\r\n\r\n"), "Failure", "BrokenHttp"),
    *both("huge header", sends(HEAD + b"x-big: " + b"a" * 600_000), "Failure", "TooLarge"),
    *both("endless headers", sends(HEAD, *[b"x-a: b\r\n" * 4096] * 20, Act.SILENCE), "Failure", "TooLarge"),
    *both(
        "wrong protocol switch",
        sends(b"HTTP/1.1 101 X\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n"),
        "Failure",
        "BrokenHttp",
    ),
    *both(
        "chunked and content-length",
        sends(HEAD + b"content-length: 5\r\n" + CHUNKED + b"0\r\n\r\n"),
        "Failure",
        "BrokenHttp",
    ),
    *both(
        "unknown encoding",
        sends(HEAD + b"content-encoding: br\r\ncontent-length: 2\r\n\r\n{}"),
        "Failure",
        "BrokenHttp",
    ),
    # waits
    *only("accept and silence json", False, sends(Act.SILENCE), "Stalled", "AnswerTimeout", 504),
    *only("accept and silence stream", True, sends(Act.SILENCE), "Stalled", "FirstTokenTimeout", 504),
    *only(
        "headers then silence json",
        False,
        sends(HEAD + b"content-length: 9\r\n\r\n", Act.SILENCE),
        "Stalled",
        "AnswerTimeout",
        504,
    ),
    *only("headers then silence stream", True, streams(Act.SILENCE), "Stalled", "FirstTokenTimeout", 504),
    *only("role then silence", True, streams(ROLE, Act.SILENCE), "Stalled", "FirstTokenTimeout", 504),
    *only(
        "comments for ever", True, streams(*[Raw(b": ping\n\n"), Pause(0.05)] * 60), "Stalled", "FirstTokenTimeout", 504
    ),
    # status
    *both("500", answers(500, error("boom")), "Failure", "ServerError"),
    *both("502 html", answers(502, HTML, "text/html"), "Failure", "ServerError"),
    *both("500 html", answers(500, HTML, "text/html"), "Failure", "ServerError"),
    *both("504", answers(504, b""), "Failure", "ServerError"),
    *both(
        "500 cut in its body",
        sends(b"HTTP/1.1 500 X\r\ncontent-length: 99\r\n\r\n{", Act.CUT),
        "Failure",
        "ServerError",
    ),
    *both("408", answers(408, b""), "Failure", "ServerError"),
    *both("302", answers(302, b"", "text/plain", "location: http://elsewhere/"), "Failure", "Redirect"),
    *both("503 otherwise", answers(503, error("something")), "Failure", "ServerError"),
    *both("429", answers(429, error("slow down")), "Busy", "RateLimited", 429),
    *both(
        "429 retry-after", answers(429, error("x"), "application/json", "retry-after: 7"), "Busy", "RateLimited", 429
    ),
    *both("529", answers(529, error("overloaded", kind="overloaded_error")), "Busy", "RateLimited", 429),
    *both("503 queue full", answers(503, error(QUEUE_FULL)), "Busy", "QueueFull", 429),
    *both("503 loading", answers(503, error("Loading model", kind="unavailable_error")), "Loading", "Loading", 503),
    *both(
        "500 html loading",
        answers(500, b"<html>Model is loading, try again</html>", "text/html"),
        "Loading",
        "Loading",
        503,
    ),
    *both("401", answers(401, error("bad key")), "Denied", "Unauthorized", 503),
    *both("402", answers(402, error("pay")), "Denied", "PaymentRequired", 503),
    *both("403", answers(403, error("no")), "Denied", "Forbidden", 503),
    *both("429 quota", answers(429, QUOTA), "Denied", "PaymentRequired", 503),
    *both("404 model", answers(404, error("model 'm' not found")), "ModelMissing", "ModelNotFound", 503),
    *both("400 model", answers(400, error("The model `m` does not exist.")), "ModelMissing", "ModelNotFound", 503),
    *both("400 html", answers(400, HTML, "text/html"), "Failure", "NotJson"),
    # the form of an answer under 200
    *both("html 200", answers(200, HTML, "text/html"), "Failure", "NotJson"),
    *only("html called json", False, answers(200, HTML), "Failure", "NotJson"),
    *only("malformed json", False, answers(200, b'{"choices": [}'), "Failure", "BrokenJson"),
    *only("truncated json", False, answers(200, completion("hi")[:-9]), "Failure", "BrokenJson"),
    *only(
        "json in latin-1",
        False,
        answers(200, completion("h\xe9").replace(b"\\u00e9", b"\xe9")),
        "Failure",
        "BrokenJson",
    ),
    *only("another json", False, answers(200, b"[1]"), "Failure", "BrokenJson"),
    *only("stream for json", False, streams(ROLE, Act.END), "Failure", "BrokenStream"),
    *only("json for stream", True, answers(200, completion("hi")), "Failure", "BrokenStream"),
    *only(
        "content-length too long",
        False,
        sends(HEAD + b"content-length: 999\r\n\r\n" + completion("hi"), Act.CUT),
        "Failure",
        "Cut",
    ),
    *only(
        "content-length too short",
        False,
        sends(HEAD + b"content-length: 20\r\n\r\n" + completion("hi")),
        "Failure",
        "BrokenJson",
    ),
    *only("cut in json", False, sends(HEAD + b"content-length: 99\r\n\r\n{", Act.RESET), "Failure", "Cut"),
    *only("malformed chunk", True, sends(SSE + CHUNKED + b"zz\r\nhello\r\n"), "Failure", "BrokenHttp"),
    *only("malformed frame", True, streams(Raw(b"data: {not json\n\n"), Act.END), "Failure", "BrokenStream"),
    *only("frame without end", True, streams(Raw(b"data: " + b"a" * 9_000_000)), "Failure", "TooLarge"),
    *only(
        "2 MiB of roles",
        True,
        streams(*[Raw((b"data: " + b'{"choices":[]}' + b"\n\n") * 5000)] * 25, Act.SILENCE),
        "Failure",
        "TooLarge",
    ),
    *only(
        "broken gzip",
        False,
        sends(HEAD + b"content-encoding: gzip\r\ncontent-length: 4\r\n\r\nabcd"),
        "Failure",
        "BrokenHttp",
    ),
    *only(
        "gzip bomb",
        False,
        answers(200, gzip.compress(b" " * 20_000_000), "application/json", "content-encoding: gzip"),
        "Failure",
        "BrokenHttp",
    ),
    # no content
    *only("error under 200", False, answers(200, error("boom")), "Failure", "ErrorEvent"),
    *only("overload under 200", False, answers(200, error("x", kind="overloaded_error")), "Busy", "QueueFull", 429),
    *only("error event first", True, streams({"error": {"message": "boom"}}, Act.END), "Failure", "ErrorEvent"),
    *only(
        "error event by its type",
        True,
        streams(Raw(b'event: error\ndata: {"message": "boom"}\n\n'), Act.END),
        "Failure",
        "ErrorEvent",
    ),
    *only(
        "error event after role", True, streams(ROLE, {"error": {"message": "boom"}}, Act.END), "Failure", "ErrorEvent"
    ),
    *only("cut before content", True, streams(ROLE, Act.CUT), "Failure", "Cut"),
    *only("reset before content", True, streams(ROLE, Act.RESET), "Failure", "Cut"),
    *only(
        "frame cut in a character",
        True,
        streams(Raw('data: {"choices":[{"delta":{"content":"ü'.encode()[:-1]), Act.CUT),
        "Failure",
        "Cut",
    ),
]

GOOD = [(True, "stream"), (False, "json")]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.name.replace(" ", "-"))
async def test_fault_moves_the_request_on(fault: Fault, upstream: Any) -> None:
    bad, good = await upstream(fault.behave), await upstream(says("all is well"))
    compiled = table([_at("a", bad.port), _at("b", good.port)], [route("a", "b", timeouts=fault.timeouts)])
    async with gateway(compiled) as g:
        began = time.monotonic()
        got = await chat(g.port, stream=fault.stream)
        took = time.monotonic() - began
    assert got.status == 200, got.body
    assert got.whole
    assert got.headers["x-pointsman-backend"] == "b"
    assert got.headers["x-pointsman-attempts"] == "2"
    if fault.stream:
        assert got.text == "all is well"
        assert got.events[-1] == "[DONE]"
    else:
        assert got.json["choices"][0]["message"]["content"] == "all is well"
    assert g.meter.verdicts == [("a", fault.verdict, fault.why), ("b", "Success", "Answered")]
    assert g.meter.fallbacks == [("a", "b", fault.why)]
    assert [len(bad.seen), len(good.seen)] == [1, 1]
    assert took < 15, "well before any timeout but those of SHORT"


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.name.replace(" ", "-"))
async def test_fault_alone_is_told_in_full(fault: Fault, upstream: Any) -> None:
    bad = await upstream(fault.behave)
    async with gateway(table([_at("a", bad.port)], [route("a", timeouts=fault.timeouts)])) as g:
        got = await chat(g.port, stream=fault.stream)
    assert got.status == fault.status, got.body
    assert got.headers["content-type"] == "application/json"
    assert set(got.json["error"]) == {"message", "type", "param", "code"}
    assert f"- a (m): {fault.verdict}, {fault.why}: " in got.message
    assert "127.0.0.1" not in got.message
    assert g.machine("a").in_flight == 0
    assert len(bad.seen) <= 2, "an endpoint is asked again once at most"
    if fault.status == 429:
        assert int(got.headers["retry-after"]) == (7 if "retry-after" in fault.name else 1)
    if fault.verdict in ("Denied", "ModelMissing"):
        assert got.headers["x-should-retry"] == "false"


def _at(name: str, port: int) -> Any:
    return external(name, f"http://127.0.0.1:{port}/v1")


# ---- verdicts that end the request, or ask only the able


@pytest.mark.parametrize("status", [400, 409, 422])
@pytest.mark.parametrize("stream", [False, True])
async def test_callers_fault_goes_to_the_caller(status: int, stream: bool, upstream: Any) -> None:
    body = error("temperature must be at most 2")
    bad, good = await upstream(answers(status, body)), await upstream(says("no"))
    async with gateway(table([_at("a", bad.port), _at("b", good.port)], [route("a", "b")])) as g:
        got = await chat(g.port, stream=stream)
    assert (got.status, got.body) == (status, body)
    assert got.headers["x-pointsman-backend"] == "a"
    assert g.meter.verdicts == [("a", "Caller", "BadRequest")]
    assert not good.seen


UNFIT = {
    "context": answers(400, error("This model's maximum context length is 8 tokens", "context_length_exceeded")),
    "413": answers(413, HTML, "text/html"),
    "404 path": answers(404, b'{"detail":"Not Found"}'),
    "405": answers(405, b"x", "text/plain"),
    "no chat": answers(400, error('"m:1" does not support chat')),
    "parameter": answers(400, error("Unsupported parameter: 'max_tokens'", "unsupported_parameter")),
}


@pytest.mark.parametrize("name", UNFIT)
async def test_unfit_backend_is_passed_over(name: str, upstream: Any) -> None:
    bad, good = await upstream(UNFIT[name]), await upstream(says("able"))
    async with gateway(table([_at("a", bad.port), _at("b", good.port)], [route("a", "b")])) as g:
        got = await chat(g.port)
        assert got.headers["x-pointsman-backend"] == "b"
        assert g.meter.verdicts[0][1] == "Unfit"
        assert g.machine("a").clear, "being unfit for one request is no fault"


async def test_first_refusal_goes_to_the_client_when_all_are_unfit(upstream: Any) -> None:
    a, b = await upstream(UNFIT["context"]), await upstream(UNFIT["404 path"])
    async with gateway(table([_at("a", a.port), _at("b", b.port)], [route("a", "b")])) as g:
        got = await chat(g.port)
    assert got.status == 400
    assert got.json["error"]["code"] == "context_length_exceeded"
    assert got.headers["x-pointsman-backend"] == "a"


async def test_retry_after_as_a_date(upstream: Any) -> None:
    date = formatdate(time.time() + 30, usegmt=True)
    bad = await upstream(answers(429, error("x"), "application/json", f"retry-after: {date}"))
    async with gateway(table([_at("a", bad.port)], [route("a")])) as g:
        got = await chat(g.port)
        assert 25 <= int(got.headers["retry-after"]) <= 31
        again = await chat(g.port)
    assert again.status == 429
    assert "not asked, Saturated" in again.message
    assert len(bad.seen) == 1, "a busy backend is left alone for as long as it asked"


# ---- answers that look odd and are good


ODD: dict[str, tuple[bool, Behaviour]] = {
    "missing DONE": (True, streams(ROLE, delta("ok"), delta(finish="stop"), Act.END)),
    "missing DONE, then cut": (True, streams(ROLE, delta("ok"), delta(finish="stop"), Act.CUT)),
    "missing DONE, then silence": (True, streams(ROLE, delta("ok"), delta(finish="stop"), Act.SILENCE)),
    "no blank line after DONE": (
        True,
        streams(delta("ok"), delta(finish="stop"), Raw(b"data: [DONE]"), Act.END),
    ),
    "CRLF": (
        True,
        streams(
            Raw(b'data: {"choices":[{"delta":{"content":"ok"},"finish_reason":"stop"}]}\r'),
            Raw(b"\n\r\ndata: [DONE]\r\n\r\n"),
            Act.END,
        ),
    ),
    "byte by byte": (
        True,
        streams(
            *[
                Raw(bytes([b]))
                for b in b'data: {"choices":[{"delta":{"content":"ok"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
            ],
            Act.END,
        ),
    ),
    "data without a space": (
        True,
        streams(
            Raw(b'data:{"choices":[{"delta":{"content":"ok"},"finish_reason":"stop"}]}\n\ndata:[DONE]\n\n'), Act.END
        ),
    ),
    "HTTP/1.0 until close": (
        False,
        sends(b"HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n" + completion("ok"), Act.CUT),
    ),
    "HTTP/1.1 until close": (False, sends(HEAD + b"\r\n" + completion("ok"), Act.CUT)),
    "stream until close": (
        True,
        sends(SSE + b"\r\n" + b'data: {"choices":[{"delta":{"content":"ok"},"finish_reason":"stop"}]}\n\n', Act.CUT),
    ),
    "100 before": (False, whole(completion("ok"), b"HTTP/1.1 100 Continue\r\n\r\n")),
    "103 before": (False, whole(completion("ok"), b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n")),
    "no content type": (
        False,
        sends(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(completion("ok")), completion("ok"))),
    ),
    "gzip": (
        False,
        answers(200, gzip.compress(completion("ok")), "application/json", "content-encoding: gzip"),
    ),
    "chunked json": (
        False,
        sends(HEAD + CHUNKED + frame(completion("ok")[:50]) + frame(completion("ok")[50:]) + b"0\r\n\r\n"),
    ),
}


@pytest.mark.parametrize("name", ODD)
async def test_odd_but_whole_answers_pass(name: str, upstream: Any) -> None:
    stream, behave = ODD[name]
    odd = await upstream(behave)
    async with gateway(table([_at("a", odd.port)], [route("a")])) as g:
        got = await chat(g.port, stream=stream)
        assert got.status == 200, got.body
        assert got.whole
        if stream:
            assert got.text == "ok"
            assert got.events.count("[DONE]") == 1
            assert got.events[-1] == "[DONE]"
        else:
            assert got.json["choices"][0]["message"]["content"] == "ok"
        assert g.meter.verdicts == [("a", "Success", "Answered")]


@pytest.mark.parametrize(
    "part",
    [
        {"tool_calls": [{"index": 0, "id": "t", "type": "function", "function": {"name": "f", "arguments": ""}}]},
        {"refusal": "I will not"},
        {"reasoning_content": "let me think"},
        {"reasoning": "let me think"},
        {"function_call": {"name": "f"}},
        {"audio": {"data": "aGk="}},
    ],
    ids=lambda p: next(iter(p)),
)
@pytest.mark.parametrize("stream", [False, True])
async def test_content_is_more_than_text(part: dict[str, object], stream: bool, upstream: Any) -> None:
    behave = (
        streams(ROLE, delta(**part), delta(finish="stop"), b"[DONE]", Act.END)
        if stream
        else answers(200, completion(None, **part))
    )
    a, b = await upstream(behave), await upstream(says("no"))
    async with gateway(table([_at("a", a.port), _at("b", b.port)], [route("a", "b")])) as g:
        got = await chat(g.port, stream=stream)
    assert got.headers["x-pointsman-backend"] == "a"
    assert not b.seen
