"""The answers with an error status that we recognise, as data: status, phrases and codes → verdict and reason.

The first row that fits decides. The user's documentation is generated from `ROWS`, and each row carries an answer as an
engine really gives it, which its test feeds in. Decided here: nothing but the rows; `judging.py` reads them.
"""

from __future__ import annotations

from dataclasses import dataclass

from pointsman.domain.verdict import Verdict, Why


@dataclass(frozen=True)
class Row:
    """Fits when the status is one of `statuses`, and the text holds one of `phrases` or the codes one of `codes`. A row
    without phrases and codes fits by its status alone."""

    statuses: range | tuple[int, ...]
    verdict: Verdict
    why: Why
    sentence: str
    """About the backend: `it …`."""
    example: tuple[int, str]
    """An answer as it comes: status and body."""
    phrases: tuple[str, ...] = ()
    """Regular expressions, searched in the lower-case text."""
    codes: tuple[str, ...] = ()
    html: bool = False
    """Only an HTML body."""
    who: str = "any"
    """The engines known to answer so."""


_4XX = range(400, 500)
_5XX = range(500, 600)


def _error(message: str, code: str = "") -> str:
    return f'{{"error":{{"message":"{message}","type":"{code or "api_error"}","param":null,"code":"{code}"}}}}'


ROWS: tuple[Row, ...] = (
    Row(
        range(300, 400),
        Verdict.FAILURE,
        Why.REDIRECT,
        "it redirects elsewhere; redirects are not followed",
        (302, ""),
    ),
    Row(
        (407,),
        Verdict.FAILURE,
        Why.PROXY,
        "the proxy on the way to it wants credentials",
        (407, "<html>Proxy Authentication Required</html>"),
    ),
    Row(
        (401,),
        Verdict.DENIED,
        Why.UNAUTHORIZED,
        "it refuses our credential",
        (401, _error("Incorrect API key provided", "invalid_api_key")),
    ),
    Row((402,), Verdict.DENIED, Why.PAYMENT, "its account cannot pay", (402, _error("Insufficient Balance"))),
    Row(
        _4XX,
        Verdict.DENIED,
        Why.PAYMENT,
        "its account's quota is used up",
        (429, _error("You exceeded your current quota, please check your plan", "insufficient_quota")),
        phrases=(r"exceeded your current quota", r"insufficient balance", r"credit balance is too low"),
        codes=("insufficient_quota", "billing_hard_limit_reached"),
        who="OpenAI, DeepSeek, Anthropic",
    ),
    Row(
        (403,),
        Verdict.DENIED,
        Why.FORBIDDEN,
        "it forbids this to our credential",
        (403, _error("Country, region, or territory not supported")),
    ),
    Row(
        (400, 404),
        Verdict.UNFIT,
        Why.NOT_KEPT,
        "it does not have the response that the request continues",
        (400, _error("Previous response with id 'resp_1' not found.", "previous_response_not_found")),
        phrases=(
            r"(previous )?response with id.{0,120}not found",
            r"conversation with id.{0,120}not found",
        ),
        codes=("previous_response_not_found", "conversation_not_found"),
        who="OpenAI, vLLM",
    ),
    Row(
        (400, 404, 422),
        Verdict.MODEL_MISSING,
        Why.MODEL_NOT_FOUND,
        "it does not have the model",
        (404, _error("model 'nope' not found")),
        phrases=(
            r"model\b.{0,120}(not found|does not exist|doesn't exist|not exist\b|is not available|not installed)",
            r"(unknown|invalid|no such) model\b",
            r"model not found",
            r"try pulling it first",
        ),
        codes=("model_not_found", "invalid_model"),
        who="Ollama, vLLM, OpenAI, LM Studio",
    ),
    Row(
        (400, 413, 422),
        Verdict.UNFIT,
        Why.CONTEXT_OVERFLOW,
        "the prompt is longer than its context",
        (400, _error("This model's maximum context length is 256 tokens. However, you requested 300 tokens")),
        phrases=(
            r"maximum context length",
            r"(exceeds?|longer than|larger than|over).{0,40}context",
            r"context.{0,20}(exceeded|overflow)",
            r"(prompt|input) is too long",
            r"too many (input )?tokens",
            r"max_model_len",
            r"(longer|greater) than the maximum model length",
        ),
        codes=("context_length_exceeded", "exceed_context_size_error"),
        who="OpenAI, vLLM, llama.cpp",
    ),
    Row(
        (400, 404, 422, 501),
        Verdict.UNFIT,
        Why.UNSUPPORTED,
        "it does not support what the request asks for",
        (400, _error("model does not support chat")),
        phrases=(
            r"does not support (chat|tools|thinking|images|vision|generate|this)",
            r"does not support (the )?(embeddings|completions|responses)\b",
            r"not support(ed)? (tool|image|vision|audio|multimodal)",
            r"(image|audio|video|tool|function).{0,40}(is|are) not supported",
            r"unsupported (parameter|value|content)",
            r"unrecognized request argument",
            r"--enable-auto-tool-choice",
            r"not a (chat|multimodal) model",
        ),
        codes=("unsupported_parameter", "unsupported_value", "unsupported_content_type"),
        who="Ollama, vLLM, OpenAI",
    ),
    Row(
        (404, 405, 501),
        Verdict.UNFIT,
        Why.UNKNOWN_OPERATION,
        "it does not know this operation",
        (404, '{"detail":"Not Found"}'),
    ),
    Row(
        (413,),
        Verdict.UNFIT,
        Why.TOO_LARGE,
        "the request is too large for it",
        (413, "<html>413 Request Entity Too Large</html>"),
    ),
    Row((408, 425), Verdict.FAILURE, Why.SERVER_ERROR, "it gave up on the request", (408, "")),
    Row(
        (429, 529),
        Verdict.BUSY,
        Why.RATE_LIMITED,
        "it limits our rate",
        (429, _error("Rate limit reached", "rate_limit_exceeded")),
    ),
    Row(
        (500, 503),
        Verdict.LOADING,
        Why.LOADING,
        "it is loading the model",
        (503, '{"error":{"message":"Loading model","type":"unavailable_error","code":503}}'),
        phrases=(
            r"loading model",
            r"model is (still |currently )?(loading|being loaded|starting|initiali[sz]ing)",
            r"is loading\b",
            r"model.{0,60}(unloaded|swapp)",
            r"model is not ready",
            r"still (loading|starting)",
        ),
        codes=("model_loading",),
        who="llama.cpp, LM Studio, TGI",
    ),
    Row(
        (500, 502, 503, 504),
        Verdict.BUSY,
        Why.QUEUE_FULL,
        "its queue is full",
        (503, _error("server busy, please try again.  maximum pending requests exceeded")),
        phrases=(
            r"server busy",
            r"maximum pending requests",
            r"queue.{0,30}full",
            r"overloaded",
            r"too many requests",
            r"no slots? available",
            r"at capacity",
        ),
        codes=("overloaded_error", "rate_limit_exceeded", "server_overloaded"),
        who="Ollama, Anthropic, TGI",
    ),
    Row(_5XX, Verdict.FAILURE, Why.SERVER_ERROR, "its server failed", (500, _error("CUDA error: out of memory"))),
    Row(
        _4XX,
        Verdict.FAILURE,
        Why.NOT_JSON,
        "something in front of it answered in HTML",
        (400, "<html><h1>400 Bad Request</h1>The plain HTTP request was sent to HTTPS port</html>"),
        html=True,
    ),
    Row(
        _4XX,
        Verdict.CALLER,
        Why.BAD_REQUEST,
        "the request itself is at fault",
        (400, _error("temperature must be at most 2", "invalid_request_error")),
    ),
)
