"""What did this attempt mean? The closed sets of verdicts and reasons, and the judgement that joins them.

Decided here: the vocabulary, and what each verdict entails for the request. `judging.py` decides which outcome gets
which verdict; `health.py` what a verdict does to an endpoint.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Verdict(StrEnum):
    SUCCESS = "Success"
    CALLER = "Caller"
    UNFIT = "Unfit"
    BUSY = "Busy"
    LOADING = "Loading"
    MODEL_MISSING = "ModelMissing"
    DENIED = "Denied"
    FAILURE = "Failure"
    STALLED = "Stalled"
    SLOW = "Slow"
    CANCELLED = "Cancelled"


class Why(StrEnum):
    """The reason beside a verdict: one word for metrics, headers and reports."""

    ANSWERED = "Answered"
    # the connection
    REFUSED = "Refused"
    RESET = "Reset"
    DNS = "DnsFailed"
    TLS = "TlsFailed"
    UNREACHABLE = "Unreachable"
    PROXY = "ProxyFailed"
    """The proxy on the way to it opened no way."""
    GONE = "EndpointGone"
    """Its pod left while it was being dialled."""
    CONNECT_TIMEOUT = "ConnectTimeout"
    # the wait
    FIRST_TOKEN_TIMEOUT = "FirstTokenTimeout"  # noqa: S105
    ANSWER_TIMEOUT = "AnswerTimeout"
    IDLE_TIMEOUT = "IdleTimeout"
    SLOW_FIRST_TOKEN = "SlowFirstToken"  # noqa: S105
    OUTRUN = "Outrun"
    """Another attempt at the same request answered first."""
    TOTAL_TIMEOUT = "TotalTimeout"
    CLIENT_GONE = "ClientGone"
    # the answer's form
    BROKEN_HTTP = "BrokenHttp"
    BROKEN_JSON = "BrokenJson"
    BROKEN_STREAM = "BrokenStream"
    NOT_JSON = "NotJson"
    REDIRECT = "Redirect"
    CUT = "Cut"
    TOO_LARGE = "TooLarge"
    INCOMPLETE = "Incomplete"
    EMPTY = "EmptyAnswer"
    ERROR_EVENT = "ErrorEvent"
    # what the backend said
    SERVER_ERROR = "ServerError"
    RATE_LIMITED = "RateLimited"
    QUEUE_FULL = "QueueFull"
    LOADING = "Loading"
    MODEL_NOT_FOUND = "ModelNotFound"
    UNAUTHORIZED = "Unauthorized"
    PAYMENT = "PaymentRequired"
    FORBIDDEN = "Forbidden"
    CONTEXT_OVERFLOW = "ContextOverflow"
    UNSUPPORTED = "Unsupported"
    UNKNOWN_OPERATION = "UnknownOperation"
    NOT_KEPT = "NotKept"
    """It does not have the response or conversation that the request continues."""
    FORGOTTEN = "Forgotten"
    """It answered as if the request continued nothing."""
    BAD_REQUEST = "BadRequest"
    ADDED_FIELD = "AddedField"
    """A 4xx about a field that the gateway itself added."""


@dataclass(frozen=True)
class Judgement:
    """A verdict with its reason and one sentence for people. The sentence carries no secret, URL or stack."""

    verdict: Verdict
    why: Why
    sentence: str = ""
    retry_after: float | None = None
    """Seconds that the backend asked for."""
    by_answer: bool = False
    """A Failure that the backend answered (5xx, empty, error event), which a poison request can cause anywhere."""
    begun: bool = False
    """It was said within an answer under 2xx: the backend had begun with the request."""


SUCCESS: Final = Judgement(Verdict.SUCCESS, Why.ANSWERED)
EMPTY: Final = Judgement(Verdict.FAILURE, Why.EMPTY, "it ended without any content", by_answer=True)
FORGOTTEN: Final = Judgement(
    Verdict.UNFIT, Why.FORGOTTEN, "it ignores what the request continues: it keeps no responses", begun=True
)
INCOMPLETE: Final = Judgement(Verdict.FAILURE, Why.INCOMPLETE, "the stream ended before its answer did")
