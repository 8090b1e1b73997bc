"""Answers with an error status, and answers under 200 that are none. Data only."""

from __future__ import annotations

import time
from collections.abc import Iterable
from email.utils import formatdate

from pointsman.conform.scenario import Right, Scenario
from pointsman.simulator.behaviour import Behaviour, answers
from pointsman.simulator.connection import Connection, Request
from pointsman.simulator.openai_bytes import completion, error

HTML = b"<html><body><h1>It works!</h1></body></html>"
LIMIT = error("Rate limit reached", "rate_limit_exceeded")
BUSY = answers(429, LIMIT, "application/json", "retry-after: 1")
QUEUE_FULL = error("server busy, please try again.  maximum pending requests exceeded")
LOADING = error("Loading model", kind="unavailable_error")
DENIED = error("Incorrect API key provided", "invalid_api_key", "invalid_request_error")
QUOTA = error("You exceeded your current quota, please check your plan", "insufficient_quota", "insufficient_quota")
NO_MODEL = error("The model `simulated` does not exist", "model_not_found", "invalid_request_error")
OVERFLOW = error(
    "This model's maximum context length is 256 tokens. However, you requested 300 tokens",
    "context_length_exceeded",
    "invalid_request_error",
)
CALLER = error("temperature must be at most 2", None, "invalid_request_error")

STATUS = "Status"
BODY = "Body under 200"


def _both(name: str, behave: Behaviour, why: str, right: Right = Right.FALLBACK, status: int = 200) -> list[Scenario]:
    return [
        Scenario(f"{name} ({kind})", STATUS, right, why, (behave,), stream=kind == "stream", status=(status,))
        for kind in ("json", "stream")
    ]


def _lingering(rows: Iterable[tuple[str, Behaviour, str]]) -> list[Scenario]:
    return [
        Scenario(name, STATUS, Right.FALLBACK, why, (behave,), lingers=True, stream=n % 2 == 1)
        for n, (name, behave, why) in enumerate(rows)
    ]


async def busy_until_a_date(connection: Connection, request: Request) -> None:
    """HTTP dates have whole seconds: it is a pause of one to two."""
    date = formatdate(time.time() + 2, usegmt=True)
    await connection.answer(429, LIMIT, "application/json", f"retry-after: {date}")


STATUSES: list[Scenario] = [
    *_both("500", answers(500, error("CUDA error: out of memory")), "the engine failed"),
    *_both("500 in HTML", answers(500, HTML, "text/html"), "something in front of the engine failed"),
    *_both("502 in HTML", answers(502, HTML, "text/html"), "an ingress without its pod"),
    *_both("504", answers(504, b"", "text/plain"), "an ingress lost patience"),
    *_both("408", answers(408, b"", "text/plain"), "the backend did not get the request in time; the next one may"),
    *_both(
        "302", answers(302, b"", "text/plain", "location: http://elsewhere.invalid/"), "never followed: it is a POST"
    ),
    *_both("429", answers(429, LIMIT), "a rate limit is no reason for the client to wait while another is free"),
    Scenario("429, Retry-After a date", STATUS, Right.FALLBACK, "as HTTP allows it", (busy_until_a_date,)),
    Scenario("429, Retry-After 1", STATUS, Right.FALLBACK, "as OpenAI says it", (BUSY,), stream=True),
    *_both("529", answers(529, error("Overloaded", kind="overloaded_error")), "as Anthropic says it"),
    *_both("503, queue full", answers(503, QUEUE_FULL), "as Ollama says it"),
    *_both("503, loading", answers(503, LOADING), "as llama.cpp says it while it starts"),
    *_both("400, of the caller", answers(400, CALLER), "another backend would say the same", Right.CALLER, 400),
    *_both("422, of the caller", answers(422, CALLER), "another backend would say the same", Right.CALLER, 422),
    *_both("400, context overflow", answers(400, OVERFLOW), "the next backend may have room", Right.FALLBACK),
    *_both("413", answers(413, HTML, "text/html"), "the limit of one ingress", Right.FALLBACK),
    *_both("404, no such path", answers(404, b'{"detail":"Not Found"}'), "it cannot do this operation", Right.FALLBACK),
    *_both("403, once", answers(403, error("Country not supported")), "our credential, not the client's"),
]

LINGERING: list[Scenario] = _lingering(
    (
        ("404, no such model", answers(404, NO_MODEL), "a store that lost the model"),
        ("400, no such model", answers(400, NO_MODEL), "the same, as others say it"),
        ("401", answers(401, DENIED), "a rotated key of ours is not the client's fault"),
        ("402", answers(402, error("Insufficient Balance")), "our account is empty, not the client's"),
        ("429, quota used up", answers(429, QUOTA), "waiting will not help here; another backend does"),
    )
)

BODIES: list[Scenario] = [
    Scenario(name, BODY, Right.FALLBACK, why, (behave,), stream=stream)
    for name, stream, behave, why in (
        ("HTML (json)", False, answers(200, HTML, "text/html"), "a captive portal, a login page, a wrong path"),
        ("HTML (stream)", True, answers(200, HTML, "text/html"), "a captive portal, a login page, a wrong path"),
        ("malformed JSON", False, answers(200, b'{"choices": [}'), "a client's parser would be the first to notice"),
        (
            "truncated JSON",
            False,
            answers(200, completion("half an ans")[:-40]),
            "cut by a proxy that then set a length",
        ),
        ("error object", False, answers(200, error("engine core died")), "an error is none the less one under 200"),
        ("empty answer (json)", False, answers(200, completion("")), "a healthy status and nothing in it"),
    )
]
