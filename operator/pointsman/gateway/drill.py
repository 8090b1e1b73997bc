"""`POST /v1/drill`: a backend is treated as down for a bounded time, to see the fallback that is hoped for.

Decided here: which drills are allowed. Not here: what being down means for the order (`domain/flags.py`, like every
other obstacle) and who may ask (`admin.py`).

A drill is an outage of nobody: it is refused when a route would be left without another target that could serve now,
and if the others fail meanwhile, the drilled backend is asked all the same, as `whenAllUnhealthy: TryOne` says. It ends
by itself after `seconds`, `LONGEST_SECONDS` at most. Requests under way stay where they are; health, probes and figures
go on as ever. Each replica drills for itself.
"""

from __future__ import annotations

import msgspec

from pointsman.domain.candidates import barred
from pointsman.domain.table import Route
from pointsman.gateway.state import GatewayState

LONGEST_SECONDS = 120.0


class Drill(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is asked for."""

    route: str
    backend: str
    seconds: float
    """0 ends a drill."""


class Refused(ValueError):
    """The drill is not done; the text says why. `missing`: because something named does not exist."""

    def __init__(self, text: str, *, missing: bool = False) -> None:
        super().__init__(text)
        self.missing = missing


def read(body: bytes) -> Drill:
    """Raises `Refused`."""
    try:
        drill = msgspec.json.decode(body, type=Drill)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Refused('send {"route": "chat", "backend": "local", "seconds": 10} as JSON') from None
    if not 0 <= drill.seconds <= LONGEST_SECONDS:
        raise Refused(f"seconds must be from 0 (which ends a drill) to {LONGEST_SECONDS:g}")
    return drill


def begin(state: GatewayState, drill: Drill) -> tuple[str, ...]:
    """Begins or ends the drill; returns the names of all routes that it concerns. Raises `Refused`."""
    route = state.table.routes.get(drill.route)
    if route is None:
        raise Refused(f"there is no ModelRoute {drill.route}", missing=True)
    if not _has(route, drill.backend):
        names = ", ".join(dict.fromkeys(t.backend.name for v in route.variants for t in v.targets))
        raise Refused(f"route {route.name} has no target of {drill.backend}; it has {names}", missing=True)
    concerned = [r for r in state.table.routes.values() if _has(r, drill.backend)]
    now = state.clock()
    if drill.seconds:
        for one in concerned:
            if not _has_other(state, one, drill.backend, now):
                raise Refused(
                    f"route {one.name} would be left without a target that could serve: give it another, or wait until"
                    " one is back"
                )
    state.health.drill(drill.backend, now + drill.seconds)
    return tuple(r.name for r in concerned)


def _has(route: Route, backend: str) -> bool:
    return any(t.backend.name == backend for variant in route.variants for t in variant.targets)


def _has_other(state: GatewayState, route: Route, backend: str, now: float) -> bool:
    """Could another backend serve while this one is down, whichever rule a request comes by? With fallback off none is
    asked."""
    return route.fallback and all(
        any(t.backend.name != backend and barred(t, state.health, now) is None for t in variant.targets)
        for variant in route.variants
        if any(t.backend.name == backend for t in variant.targets)
    )
