"""Which verdict does an attempt get that brought no whole answer? One row per way to fail.

Decided here: what a broken connection, a broken form or a wait that ended means. Each value is a judgement; the edge
that sees the fault picks it by name.
"""

from __future__ import annotations

from collections.abc import Mapping

from pointsman.domain.verdict import Judgement, Verdict, Why

_SENTENCES: Mapping[Why, tuple[Verdict, str]] = {
    Why.REFUSED: (Verdict.FAILURE, "it refuses connections"),
    Why.RESET: (Verdict.FAILURE, "it closed the connection without an answer"),
    Why.DNS: (Verdict.FAILURE, "its name cannot be resolved"),
    Why.TLS: (Verdict.FAILURE, "its certificate is not trusted, or TLS fails"),
    Why.UNREACHABLE: (Verdict.FAILURE, "no route leads to it"),
    Why.PROXY: (Verdict.FAILURE, "the proxy on the way to it failed"),
    Why.GONE: (Verdict.FAILURE, "its pod went away"),
    Why.CONNECT_TIMEOUT: (Verdict.FAILURE, "no connection within its time"),
    Why.BROKEN_HTTP: (Verdict.FAILURE, "what it sends is not HTTP/1.1"),
    Why.NOT_JSON: (Verdict.FAILURE, "it answered with something that is no JSON"),
    Why.BROKEN_STREAM: (Verdict.FAILURE, "it answered a stream with something that is none"),
    Why.CUT: (Verdict.FAILURE, "the connection was cut within the answer"),
    Why.TOO_LARGE: (Verdict.FAILURE, "its answer is too large"),
    Why.FIRST_TOKEN_TIMEOUT: (Verdict.STALLED, "no content within firstToken"),
    Why.ANSWER_TIMEOUT: (Verdict.STALLED, "no answer within its time"),
    Why.IDLE_TIMEOUT: (Verdict.STALLED, "no further content within idle"),
    Why.SLOW_FIRST_TOKEN: (
        Verdict.SLOW,
        "no content within firstTokenAfter; the target asked beside it was faster",
    ),
    Why.OUTRUN: (Verdict.CANCELLED, "the target that was asked before it answered first after all"),
    Why.TOTAL_TIMEOUT: (Verdict.CANCELLED, "the request's total time is over"),
    Why.CLIENT_GONE: (Verdict.CANCELLED, "the client went away"),
}

FAULTS: Mapping[Why, Judgement] = {why: Judgement(v, why, text) for why, (v, text) in _SENTENCES.items()}


def fault(why: Why) -> Judgement:
    return FAULTS[why]


FREE = frozenset((Why.REFUSED, Why.UNREACHABLE, Why.GONE, Why.DNS, Why.PROXY))
"""Faults of a dial that never reached the backend: they cost no attempt."""

NEVER_SENT = FREE | {Why.TLS, Why.CONNECT_TIMEOUT}
"""Faults before there was a connection to send the request on."""

RETRYABLE = frozenset(
    (
        Why.RESET,
        Why.CUT,
        Why.SERVER_ERROR,
        Why.BROKEN_HTTP,
        Why.BROKEN_JSON,
        Why.BROKEN_STREAM,
        Why.INCOMPLETE,
        Why.ERROR_EVENT,
    )
)
"""Failures that the same endpoint may not repeat: a second try there is worth it when nobody else is left."""
