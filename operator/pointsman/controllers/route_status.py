"""What the status of a route says: the compiled table and the folded reports → status. Pure.

Decided here: each condition of a route, and which speaks for `Ready`.
"""

from __future__ import annotations

from collections.abc import Sequence

from pointsman.api.conditions import Reason, RouteCondition
from pointsman.api.objects import ModelRoute
from pointsman.api.route import FallbackMode, LastFallback, ModelRouteStatus, TargetStatus
from pointsman.controllers.conditions import Conditions, Verdict, timestamp
from pointsman.domain.folding import USABLE, RouteView
from pointsman.domain.report import TargetState
from pointsman.domain.table import BrokenTarget, RoutingTable

_C = RouteCondition
WORD = 64
"""Longest state or reason that is taken from a report."""


def status(route: ModelRoute, table: RoutingTable, view: RouteView, now: float) -> ModelRouteStatus:
    """`table` is compiled from the whole namespace; `view` has one state for each (backend, model) that the spec
    names."""
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
    broken = _broken(route, table)
    if not broken:
        return Verdict(True, Reason.RESOLVED)
    message = "; ".join(dict.fromkeys(b.message for b in broken))
    return Verdict(False, Reason(broken[0].problem.value), message)


def _broken(route: ModelRoute, table: RoutingTable) -> list[BrokenTarget]:
    """Of all lists of targets, in the order of the spec."""
    compiled = table.routes.get(route.meta.name)
    variants = compiled.variants if compiled else ()
    return [b for variant in variants for b in sorted(variant.broken, key=lambda b: b.index)]


def _serving(view: RouteView) -> Verdict:
    return Verdict(view.serving, Reason(view.cause), view.message)


def _armed(route: ModelRoute, view: RouteView) -> Verdict:
    if route.spec.fallback.mode is FallbackMode.NONE:
        return Verdict(False, Reason.FALLBACK_OFF, "spec.fallback.mode is None")
    lists = route.spec.target_lists
    alone = next((name for name, listed in lists if len(listed) < 2), None)
    if alone is not None:
        which = "the route" if alone == "targets" else f"spec.{alone.partition('.')[0]}"
        return Verdict(False, Reason.ONE_TARGET, f"{which} has one target: name a second one to fall back to")
    if view.serving is None or view.cause in ("GatewayNotReady", "OldGeneration"):
        return Verdict(None, Reason.NO_REPORT, view.message)
    states = {(t.backend, t.model): t for t in view.targets}
    for name, listed in lists:
        names = dict.fromkeys((t.backend, t.model) for t in listed)
        could = [n for n in names if n in states and states[n].state in USABLE]
        if len(could) < 2:
            which = "only " + "/".join(could[0]) if could else "no target"
            where = "" if name == "targets" else f" of spec.{name.partition('.')[0]}"
            return Verdict(False, Reason.ONE_USABLE_TARGET, f"{which}{where} could serve now: nothing to fall back to")
    return Verdict(True, Reason.ARMED, "")


def _targets(route: ModelRoute, table: RoutingTable, seen: Sequence[TargetState]) -> tuple[TargetStatus, ...]:
    broken = {(b.backend, b.model): b for b in _broken(route, table)}
    states = {(t.backend, t.model): t for t in seen}
    out = []
    for name in route.spec.names_of_targets:
        backend, model = name
        if name in broken:
            out.append(TargetStatus(backend=backend, model=model, state=broken[name].problem.value))
            continue
        state = states.get(name) or TargetState(backend=backend, model=model, state="Unknown")
        since = timestamp(state.since) if state.since else ""
        out.append(
            TargetStatus(
                backend=backend, model=model, state=state.state[:WORD], reason=state.reason[:WORD], since=since
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
