"""What requests teach a gateway beside health: who keeps which answer, and who does not know which operation.

Decided here: for how long it is remembered, and which requests it concerns. Not here: what follows for an order
(`domain/confine.py`). Both are memories of one process: another replica learns for itself.
"""

from __future__ import annotations

from pointsman.dialects.operation import Operation
from pointsman.dialects.request import ChatRequest
from pointsman.domain.candidates import Ordering
from pointsman.domain.confine import confined, without

KEPT_IDS = 10_000
"""Ids of answers that are remembered, the oldest forgotten first: about 2 MB."""
UNKNOWN_SECONDS = 60.0
"""A backend that does not know an operation may have learnt it by then."""


class KeptAnswers:
    """Which endpoint keeps the answer of an id."""

    __slots__ = ("_places",)

    def __init__(self) -> None:
        self._places: dict[str, str] = {}

    def remember(self, answer_id: str, endpoint_key: str) -> None:
        places = self._places
        places.pop(answer_id, None)
        places[answer_id] = endpoint_key
        if len(places) > KEPT_IDS:
            del places[next(iter(places))]

    def place(self, answer_id: str) -> str | None:
        """The key of the endpoint; None when it is not known."""
        return self._places.get(answer_id)


class UnknownOperations:
    """Which backends have said that they do not know an operation."""

    __slots__ = ("_until",)

    def __init__(self) -> None:
        self._until: dict[tuple[str, str], float] = {}

    @property
    def none(self) -> bool:
        return not self._until

    def add(self, backend: str, operation: str, now: float) -> None:
        self._until[backend, operation] = now + UNKNOWN_SECONDS

    def backends(self, operation: str, now: float) -> list[str]:
        """Those that need not be asked now."""
        if not self._until:
            return []
        self._until = {key: until for key, until in self._until.items() if until > now}
        return [backend for backend, name in self._until if name == operation]

    def forget(self) -> None:
        """The backends are not what they were."""
        self._until.clear()


class Learnt:
    """Both: the data path learns, and it and `explain` heed it."""

    __slots__ = ("kept", "unknown")

    def __init__(self) -> None:
        self.kept = KeptAnswers()
        self.unknown = UnknownOperations()

    def narrow(self, ordering: Ordering, operation: Operation, request: ChatRequest, now: float) -> Ordering:
        """What remains of an order for this request."""
        if operation.wide:
            return ordering
        ordering = without(ordering, self.unknown.backends(operation.name, now))
        care = request.care
        if care is not None and (care.previous or care.conversation):
            place = self.kept.place(care.previous or care.conversation)
            if place is not None:
                ordering = confined(ordering, place)
        return ordering
