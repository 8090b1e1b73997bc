"""A queue that serves consumers in turn, and the requests of each in the order they came.

Decided here: who is next. Not here: who may wait, and for how long (`waiting.py`, `gateway/relay/waiting_room.py`).
Every step takes the same time, however many wait.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

W = TypeVar("W")


class FairQueue(Generic[W]):
    """Waiters are told apart by identity or hash; each stands in it once."""

    __slots__ = ("_consumers", "_whose")

    def __init__(self) -> None:
        self._consumers: OrderedDict[str, OrderedDict[W, None]] = OrderedDict()
        """In the order of their turns."""
        self._whose: dict[W, str] = {}

    def __len__(self) -> int:
        return len(self._whose)

    def __contains__(self, waiter: W) -> bool:
        return waiter in self._whose

    def join(self, waiter: W, consumer: str) -> None:
        """At the end of its consumer's requests; a consumer that had none has its turn after all others."""
        if waiter not in self._whose:
            self._whose[waiter] = consumer
            self._consumers.setdefault(consumer, OrderedDict())[waiter] = None

    def peek(self) -> W | None:
        """Whose turn it is."""
        if not self._consumers:
            return None
        return next(iter(next(iter(self._consumers.values()))))

    def leave(self, waiter: W, *, served: bool) -> None:
        """`served`: its consumer has had its turn. Without it the turn goes to its consumer's next request."""
        consumer = self._whose.pop(waiter, None)
        if consumer is None:
            return
        line = self._consumers[consumer]
        del line[waiter]
        if not line:
            del self._consumers[consumer]
        elif served:
            self._consumers.move_to_end(consumer)
