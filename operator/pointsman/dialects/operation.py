"""What a dialect must know of one operation: how its requests are read and written, how its answers are judged. Pure.

Decided here: the seam between the relay and the dialects. An operation is one object, made once; the relay knows none
by name.
"""

from __future__ import annotations

from collections.abc import Callable

from pointsman.api.route import Needed
from pointsman.dialects.request import ChatRequest, Complaint
from pointsman.dialects.sse import EventReader
from pointsman.dialects.usage import Usage
from pointsman.domain.features import NOTHING
from pointsman.domain.judging import Said
from pointsman.domain.verdict import Judgement

Judged = tuple[Judgement, Usage | None, Said | None]
"""The verdict of a whole answer, its usage, and what it said if it is an error after all."""


class Operation:
    """One thing that clients ask for."""

    __slots__ = ("compose", "error_event", "judge", "name", "needs", "open_stream", "parse", "path")

    def __init__(
        self,
        name: str,
        path: str,
        *,
        parse: Callable[[bytes], ChatRequest | Complaint],
        compose: Callable[[ChatRequest, str, bool], bytes],
        judge: Callable[[bytes, bool], Judged],
        open_stream: Callable[[bool], EventReader],
        error_event: Callable[[str, str, str | None], bytes],
        needs: frozenset[Needed] = NOTHING,
    ) -> None:
        self.name = name
        """As metrics call it, after the GenAI conventions: `chat`."""
        self.path = path
        """Of the backend's API, without its version: `/chat/completions`."""
        self.parse = parse
        """Reads the routed fields of a request's body."""
        self.compose = compose
        """(request, the backend's name of the model, ask for the usage of a stream?) → the body to send."""
        self.judge = judge
        """(a whole body under 2xx, has the request a stop?) → what it is worth."""
        self.open_stream = open_stream
        """(has the request a stop?) → who reads the events of one stream."""
        self.error_event = error_event
        """(message, type, code) → the last event of a stream that failed after its first content."""
        self.needs = needs
        """What each of its requests needs of a model."""
