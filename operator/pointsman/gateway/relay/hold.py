"""Requests that wait for a target that is not ready yet (`whileCold: Hold`).

Decided here: how many wait, and who goes first when the target seems ready. Not here: whether a request waits
(`domain/waiting.py`), what keeps its client patient and what it does in the end (`exchange.py`).

An engine that loads says so to whoever asks, and may say it again. So the oldest request goes alone; the others follow
when the target has not turned it away for `SCOUT_SECONDS`.
"""

from __future__ import annotations

from collections import Counter, OrderedDict

from pointsman.gateway.relay.waiting_room import Waiter

LOOK_SECONDS = 0.25
"""How often the oldest held request of each route looks again."""
SCOUT_SECONDS = 1.0


class _Line:
    """The held requests of one route."""

    __slots__ = ("held", "scouted_at")

    def __init__(self) -> None:
        self.held: OrderedDict[Waiter, None] = OrderedDict()
        self.scouted_at: float | None = None


class Hold:
    """`look` is called every `LOOK_SECONDS` while anyone is held, and when something changed."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}
        self._whose: dict[Waiter, str] = {}

    def __len__(self) -> int:
        return len(self._whose)

    def count(self, route: str) -> int:
        line = self._lines.get(route)
        return len(line.held) if line is not None else 0

    def waiting(self) -> Counter[str]:
        """How many wait for each backend; one that waits for several counts for each."""
        return Counter(backend.name for held in self._whose for backend in held.awaits())

    def join(self, held: Waiter, route: str, most: int, *, first: bool = False) -> bool:
        """False when the route holds `most` already. `first`: it went ahead and was turned away: its place is kept."""
        line = self._lines.get(route)
        if line is None:
            line = self._lines[route] = _Line()
        elif len(line.held) >= most and not first:
            return False
        line.held[held] = None
        if first:
            line.held.move_to_end(held, last=False)
            line.scouted_at = None
        self._whose[held] = route
        return True

    def leave(self, held: Waiter) -> None:
        route = self._whose.pop(held, None)
        if route is None:
            return
        line = self._lines[route]
        del line.held[held]
        if not line.held:
            del self._lines[route]

    def look(self, now: float) -> None:
        for route, line in list(self._lines.items()):
            if self._lines.get(route) is line:
                self._look(line, now)

    def _look(self, line: _Line, now: float) -> None:
        if next(iter(line.held)).cold():
            line.scouted_at = None
        elif line.scouted_at is None:
            line.scouted_at = now
            self._release(line)
        elif now - line.scouted_at >= SCOUT_SECONDS:
            for _ in range(len(line.held)):
                self._release(line)

    def _release(self, line: _Line) -> None:
        if line.held:
            oldest = next(iter(line.held))
            self.leave(oldest)
            oldest.warm()
