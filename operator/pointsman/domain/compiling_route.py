"""One ModelRoute compiled to what traffic needs of it.

Decided here: what each field of a route means for traffic, and what is said of a target that does not hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby

from pointsman.api import route as api
from pointsman.api.objects import ModelRoute
from pointsman.api.route import (
    DEFAULT_HOLD_TIMEOUT,
    DEFAULT_MAX_HELD,
    Fallback,
    FallbackMode,
    WhenAllUnhealthy,
    WhileCold,
)
from pointsman.api.scalars import seconds
from pointsman.domain.compiling_backend import Part
from pointsman.domain.rules import Match
from pointsman.domain.strategies import strategy_of
from pointsman.domain.table import BrokenTarget, Hedge, Hold, RefProblem, Route, RouteRule, Target, Tier, Timeouts


def compile_route(route: ModelRoute, won: tuple[str, ...], parts: Mapping[str, Part]) -> Route:
    """`won`: the names that it answers for; `parts`: of the backends that there are. Never raises."""
    spec = route.spec
    targets, broken = _targets(spec.targets, parts)
    timeouts = spec.timeouts
    total = seconds(timeouts.total)
    value = Route(
        name=route.meta.name,
        generation=route.meta.generation,
        models=won,
        targets=targets,
        broken=broken,
        tiers=_tiers(spec, targets),
        fallback=spec.fallback.mode is FallbackMode.AUTO,
        max_attempts=spec.fallback.max_attempts,
        try_one_when_all_unhealthy=spec.fallback.when_all_unhealthy is WhenAllUnhealthy.TRY_ONE,
        timeouts=Timeouts(
            connect=seconds(timeouts.connect),
            first_token=seconds(timeouts.first_token),
            answer=seconds(timeouts.answer) if timeouts.answer else total,
            idle=seconds(timeouts.idle),
            total=total,
        ),
        hold=_hold(spec.fallback),
        hedge=_hedge(spec.fallback),
    )
    rules = []
    for number, rule in enumerate(spec.route_rules):
        targets, broken = _targets(rule.targets, parts)
        variant = replace(value, targets=targets, broken=broken, tiers=_tiers(spec, targets), rule=number)
        rules.append(RouteRule(Match.of(rule.match), variant))
    return replace(value, rules=tuple(rules))


def _targets(
    listed: Sequence[api.Target], parts: Mapping[str, Part]
) -> tuple[tuple[Target, ...], tuple[BrokenTarget, ...]]:
    """Those whose references hold, sorted by rank, and the others."""
    targets: list[Target] = []
    broken: list[BrokenTarget] = []
    for index, t in enumerate(listed):
        part = parts.get(t.backend)
        if part is None:
            problem, message = RefProblem.BACKEND_NOT_FOUND, f"LLMBackend {t.backend} does not exist in this namespace"
        elif t.model not in part.backend.models:
            problem, message = (
                RefProblem.MODEL_NOT_FOUND,
                f"LLMBackend {t.backend} has no model {t.model}; it has {', '.join(part.backend.traits)}",
            )
        elif part.trouble is not None:
            problem, message = part.trouble[0], f"LLMBackend {t.backend}: {part.trouble[1]}"
        else:
            value = part.backend
            traits = value.traits[t.model]
            targets.append(Target(index, value, t.model, value.models[t.model], t.priority, t.weight, traits))
            continue
        broken.append(BrokenTarget(index, t.backend, t.model, t.priority, problem, message, t.weight))
    return tuple(sorted(targets, key=lambda t: (t.rank, t.index))), tuple(broken)


def _tiers(spec: api.ModelRouteSpec, targets: Sequence[Target]) -> tuple[Tier, ...]:
    tiers = []
    for _, group in groupby(targets, key=lambda t: t.rank):
        equals = tuple(group)
        strategy = strategy_of(spec.strategy, spec.sticky, [t.weight for t in equals], [t.traits for t in equals])
        tiers.append(Tier(equals, strategy, any(t.traits.choosy for t in equals)))
    return tuple(tiers)


def _hold(fallback: Fallback) -> Hold | None:
    if fallback.while_cold is not WhileCold.HOLD:
        return None
    return Hold(seconds(fallback.hold_timeout or DEFAULT_HOLD_TIMEOUT), fallback.max_held or DEFAULT_MAX_HELD)


def _hedge(fallback: Fallback) -> Hedge | None:
    if fallback.first_token_after is None:
        return None
    return Hedge(seconds(fallback.first_token_after), fallback.hedge_to_priced)
