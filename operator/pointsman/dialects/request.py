"""A request as routing and relaying see it, whatever its dialect; and one that cannot be served. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from pointsman.api.route import TaskType

Span = tuple[int, int]
"""Byte offsets."""


@dataclass(frozen=True, slots=True)
class Complaint:
    """A request that cannot be served, in OpenAI's terms."""

    status: int
    message: str
    code: str | None = None
    param: str | None = None


@dataclass(frozen=True, slots=True)
class Care:
    """What must be minded with a request that is more than a question."""

    acts: bool
    """A backend that began with it may have kept something, or run a tool: it may not be asked of another."""
    stores: bool = False
    """Its answer can be continued by its id."""
    previous: str = ""
    """The id of the answer that it continues."""
    conversation: str = ""
    """The id of the conversation that it belongs to."""


class ChatRequest:
    """What routing and relaying need of a request."""

    __slots__ = (
        "body", "care", "has_stop", "model", "model_span", "options_span", "stream", "task", "wants_usage",
    )  # fmt: skip

    def __init__(
        self, body: bytes, model: str, stream: bool, wants_usage: bool, has_stop: bool, model_span: Span,
        options_span: Span | None, task: TaskType | None = None, care: Care | None = None,
    ) -> None:  # fmt: skip
        self.body = body
        self.model = model
        self.stream = stream
        self.wants_usage = wants_usage
        """The client asked for the usage frame of a stream."""
        self.has_stop = has_stop
        self.model_span = model_span
        """Byte offsets of the model's value within `body`, quotes included."""
        self.options_span = options_span
        """The same of `stream_options`; None when it is absent."""
        self.task = task
        """What the caller says it is for."""
        self.care = care
        """None for what can be asked of anybody, any number of times: the usual."""
