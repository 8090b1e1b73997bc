"""One finished request, as metrics and the access log see it."""

from __future__ import annotations


class RequestRecord:
    """Times in milliseconds unless the name says otherwise."""

    __slots__ = (
        "asked", "attempts", "backend", "completion_tokens", "first_token_ms", "model", "ms",
        "operation", "overhead_us", "prompt_tokens", "queued_ms", "request_id", "route", "status", "stream",
        "verdict", "why",
    )  # fmt: skip

    def __init__(
        self, request_id: str, route: str, model: str, status: int, stream: bool, ms: float, attempts: int,
        backend: str, verdict: str, why: str, first_token_ms: float | None, overhead_us: int,
        prompt_tokens: int | None, completion_tokens: int | None, queued_ms: float | None = None,
        asked: str = "", operation: str = "chat",
    ) -> None:  # fmt: skip
        self.request_id = request_id
        self.route = route
        """Empty when no route has the model."""
        self.model = model
        """The name or pattern of the route that the client asked by: bounded by the routes. Empty when it did not get
        that far."""
        self.status = status
        """The HTTP status that the client saw; 499 when it went away before."""
        self.stream = stream
        self.ms = ms
        self.attempts = attempts
        self.backend = backend
        """Who served; empty when nobody did."""
        self.verdict = verdict
        """Of the last attempt; `Success` when the answer was whole."""
        self.why = why
        self.first_token_ms = first_token_ms
        self.overhead_us = overhead_us
        """Our own time before the first byte: neither waiting for the client nor for a backend."""
        self.prompt_tokens = prompt_tokens
        """None when the backend did not say: unknown is never zero."""
        self.completion_tokens = completion_tokens
        self.queued_ms = queued_ms
        """Of a request that waited for a slot, or for a target that was not ready."""
        self.asked = asked
        """What the client asked for, where that is not `model` but matches it."""
        self.operation = operation
        """`chat`, `text_completion`, `embeddings`, `responses`, `responses.compact`, `responses.input_tokens`,
        `models`, `stored`; empty when it is none of ours."""
