"""What the status of a route says: the compiled table and the folded reports → status. Pure.

Decided here: each condition of a route, and which speaks for `Ready`.
"""

from __future__ import annotations

from collections.abc import Sequence

from pointsman.api.conditions import Reason, RouteCondition
from pointsman.api.objects import ModelRoute
from pointsman.api.route import FallbackMode, LastFallback, ModelRouteStatus, TargetStatus
from pointsman.controllers.conditions import Conditions, Verdict, timestamp
from pointsman.domain.folding import USABLE, RouteView, usable
from pointsman.domain.report import TargetState
from pointsman.domain.table import RoutingTable

_C = RouteCondition
WORD = 64
"""Longest state or reason that is taken from a report."""


def status(route: ModelRoute, table: RoutingTable, view: RouteView, now: float) -> ModelRouteStatus:
    """`table` is compiled from the whole namespace; `view` has one state for each target of the spec."""
    accepted = _accepted(route, table)
    refs = _refs(route, table)
    serving = _serving(view)
    armed = _armed(route, view)
    ready = next((v for v in (accepted, refs, serving) if v.holds is not True), Verdict(True, Reason.READY))
    stalled = next((v for v in (accepted, refs) if v.holds is False), None)
    conditions = Conditions(route.status.conditions, route.meta.generation, now)
    conditions.set(_C.READY, ready)
    waits = ready.holds is not True and stalled is None and ready.reason is not Reason.NO_USABLE_TARGET
    conditions.set(
        _C.RECONCILING,
        Verdict(True, Reason.PROGRESSING, ready.message) if waits else Verdict(False, Reason.SETTLED),
    )
    conditions.set(
        _C.STALLED,
        Verdict(True, stalled.reason, stalled.message) if stalled else Verdict(False, Reason.NOT_STALLED),
    )
    conditions.set(_C.ACCEPTED, accepted)
    conditions.set(_C.RESOLVED_REFS, refs)
    conditions.set(_C.SERVING, serving)
    conditions.set(_C.FALLBACK_ARMED, armed)
    targets = _targets(route, table, view.targets)
    good = sum(1 for t in targets if t.state in USABLE)
    return ModelRouteStatus(
        observed_generation=route.meta.generation,
        conditions=conditions.result(),
        targets=targets,
        targets_summary=f"{good}/{len(targets)}",
        last_fallback=_last(route, view),
    )


def _accepted(route: ModelRoute, table: RoutingTable) -> Verdict:
    lost = [c for c in table.clashes if c.route == route.meta.name]
    if not lost:
        return Verdict(True, Reason.ACCEPTED)
    names = ", ".join(f"{c.model} (route {c.winner})" for c in lost)
    return Verdict(
        False,
        Reason.MODEL_NAME_CLAIMED,
        f"an older route already answers for {names}: remove the name from one of them",
    )


def _refs(route: ModelRoute, table: RoutingTable) -> Verdict:
    compiled = table.routes.get(route.meta.name)
    if compiled is None or not compiled.broken:
        return Verdict(True, Reason.RESOLVED)
    first = min(compiled.broken, key=lambda b: b.index)
    message = "; ".join(dict.fromkeys(b.message for b in sorted(compiled.broken, key=lambda b: b.index)))
    return Verdict(False, Reason(first.problem.value), message)


def _serving(view: RouteView) -> Verdict:
    return Verdict(view.serving, Reason(view.cause), view.message)


def _armed(route: ModelRoute, view: RouteView) -> Verdict:
    if route.spec.fallback.mode is FallbackMode.NONE:
        return Verdict(False, Reason.FALLBACK_OFF, "spec.fallback.mode is None")
    if len(route.spec.targets) < 2:
        return Verdict(False, Reason.ONE_TARGET, "the route has one target: name a second one to fall back to")
    if view.serving is None or view.cause in ("GatewayNotReady", "OldGeneration"):
        return Verdict(None, Reason.NO_REPORT, view.message)
    able = usable(view.targets)
    if able < 2:
        which = next((f"only {t.backend}/{t.model}" for t in view.targets if t.state in USABLE), "no target")
        return Verdict(False, Reason.ONE_USABLE_TARGET, f"{which} could serve now: nothing to fall back to")
    return Verdict(True, Reason.ARMED, "")


def _targets(route: ModelRoute, table: RoutingTable, seen: Sequence[TargetState]) -> tuple[TargetStatus, ...]:
    compiled = table.routes.get(route.meta.name)
    broken = {b.index: b for b in compiled.broken} if compiled else {}
    out = []
    for index, target in enumerate(route.spec.targets):
        if index in broken:
            bad = broken[index]
            out.append(TargetStatus(backend=target.backend, model=target.model, state=bad.problem.value))
            continue
        state = seen[index] if index < len(seen) else TargetState(backend="", model="", state="Unknown")
        since = timestamp(state.since) if state.since else ""
        out.append(
            TargetStatus(
                backend=target.backend,
                model=target.model,
                state=state.state[:WORD],
                reason=state.reason[:WORD],
                since=since,
            )
        )
    return tuple(out)


def _last(route: ModelRoute, view: RouteView) -> LastFallback | None:
    """A gateway that starts anew has forgotten: what is in the status stays until something newer comes."""
    new, old = view.last_fallback, route.status.last_fallback
    if new is None:
        return old
    at = timestamp(new.at)
    if old is not None and at < old.at:
        return old
    return LastFallback(
        at=at,
        from_backend=new.from_backend[:WORD],
        to_backend=new.to_backend[:WORD],
        reason=new.reason[:WORD],
        request_id=new.request_id[:128],
    )
