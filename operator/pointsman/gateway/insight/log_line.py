"""A line of the access log: what it says, in which order. What is not known is left out."""

from __future__ import annotations

import msgspec


class LogLine(msgspec.Struct, omit_defaults=True, gc=False):
    """The fields of `RequestRecord`, which has their meaning. The defaults of the first ones never occur."""

    time: str = ""
    """RFC 3339, with milliseconds."""
    request_id: str = ""
    operation: str = ""
    route: str = ""
    model: str = ""
    status: int = -1
    stream: bool | None = None
    ms: float = -1.0
    attempts: int = -1
    backend: str = ""
    verdict: str = ""
    why: str = ""
    first_token_ms: float | None = None
    overhead_us: int = -1
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    queued_ms: float | None = None
    asked: str = ""
