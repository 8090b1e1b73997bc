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

    __slots__ = (
        "compose",
        "compose_in_place",
        "judge",
        "kept_id",
        "name",
        "needs",
        "open_stream",
        "parse",
        "path",
        "wide",
    )

    def __init__(
        self,
        name: str,
        path: str,
        *,
        parse: Callable[[bytes], ChatRequest | Complaint],
        compose: Callable[[ChatRequest, str, bool], bytes],
        compose_in_place: Callable[[ChatRequest, str, bool], list[bytes | memoryview]] | None = None,
        judge: Callable[[bytes, ChatRequest], Judged],
        open_stream: Callable[[ChatRequest], EventReader],
        kept_id: Callable[[bytes], str] | None = None,
        needs: frozenset[Needed] = NOTHING,
        wide: bool = False,
    ) -> None:
        self.name = name
        """As metrics call it, after the GenAI conventions: `chat`."""
        self.path = path
        """Of the backend's API, without its version: `/chat/completions`."""
        self.parse = parse
        """Reads the routed fields of a request's body."""
        self.compose = compose
        """(request, the backend's name of the model, ask for the usage of a stream?) → the body to send."""
        self.compose_in_place = compose_in_place
        """The same in pieces, for large bodies; None where it has none."""
        self.judge = judge
        """(a whole body under 2xx, the request) → what it is worth."""
        self.open_stream = open_stream
        """(the request) → who reads the events of one stream."""
        self.kept_id = kept_id
        """(a whole body under 2xx) → the id by which it can be continued, or nothing; None: no answer can be."""
        self.needs = needs
        """What each of its requests needs of a model."""
        self.wide = wide
        """Every backend has it: one that says that it does not know it is asked again with the next request."""
