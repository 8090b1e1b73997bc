"""A request as routing and relaying see it, whatever its dialect; and one that cannot be served. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

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


class Care(msgspec.Struct, frozen=True, gc=False):
    """What must be minded with a request that is more than a question."""

    acts: bool
    """A backend that began with it may have kept something, or run a tool: it may not be asked of another."""
    stores: bool = False
    """Its answer can be continued by its id."""
    previous: str = ""
    """The id of the answer that it continues."""
    conversation: str = ""
    """The id of the conversation that it belongs to."""


class ChatRequest(msgspec.Struct, gc=False):
    """What routing and relaying need of a chat request."""

    body: bytes
    model: str
    stream: bool
    wants_usage: bool
    """The client asked for the usage frame of a stream."""
    has_stop: bool
    model_span: Span
    """Byte offsets of the model's value within `body`, quotes included."""
    options_span: Span | None
    """The same of `stream_options`; None when it is absent."""
    task: TaskType | None = None
    """What the caller says it is for."""
    care: Care | None = None
    """None for what can be asked of anybody, any number of times: the usual."""
