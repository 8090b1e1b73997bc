"""Who may answer this request, in which order, and why not the others.

Decided here: the order of candidates and the reason for each exclusion; `pointsman explain` prints exactly this. Not
here: how many attempts are made of it (`attempts.py`) and who is healthy (`health.py`).

A candidate is a target with the endpoints of it that may be asked now, the least loaded first. The order is by priority
and place in the spec; endpoints in the middle of their ramp come after everything else that is usable. When nothing is
usable and the route says TryOne, the least bad endpoints follow, each with one trial in flight at most (`attempts.py`
spends one attempt on them).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from pointsman.domain.flags import Hindrance, Obstacle
from pointsman.domain.health import EndpointMachine
from pointsman.domain.table import BrokenTarget, Endpoint, Route, Target


class Health(Protocol):
    """What the order needs to know of endpoints; `HealthBook` is one."""

    def machine(self, key: str) -> EndpointMachine | None: ...


class Place(StrEnum):
    """Why a candidate stands where it does."""

    PRIORITY = "Priority"
    RAMPING = "Ramping"
    LEAST_BAD = "LeastBad"


class Barred(StrEnum):
    """Why a target is no candidate."""

    NO_ENDPOINT = "NoEndpoint"
    UNHEALTHY = "Unhealthy"
    SATURATED = "Saturated"
    LOADING = "Loading"
    MODEL_MISSING = "ModelMissing"
    DENIED = "Denied"
    AT_LIMIT = "AtLimit"
    DRILL = "Drill"
    FALLBACK_OFF = "FallbackOff"
    BACKEND_NOT_FOUND = "BackendNotFound"
    MODEL_NOT_FOUND = "ModelNotFound"
    SECRET_MISSING = "SecretMissing"  # noqa: S105


@dataclass(frozen=True)
class Candidate:
    target: Target
    endpoints: tuple[Endpoint, ...]
    """Least loaded first."""
    place: Place = Place.PRIORITY


@dataclass(frozen=True)
class Excluded:
    target: Target | BrokenTarget
    reason: Barred
    message: str
    until: float | None = None
    """When the reason ends by itself, by the clock of `now`."""

    @property
    def backend(self) -> str:
        return self.target.backend if isinstance(self.target, BrokenTarget) else self.target.backend.name


@dataclass(frozen=True)
class Ordering:
    candidates: tuple[Candidate, ...]
    excluded: tuple[Excluded, ...]


_LEAST_BAD = (Obstacle.DRILL, Obstacle.LOADING, Obstacle.UNHEALTHY, Obstacle.MODEL_MISSING)
"""What TryOne may try, best first. Denied and saturated endpoints stay out."""

_SERVES = (Obstacle.RAMPING, Obstacle.AT_LIMIT)
"""What keeps a request out now, though the endpoint serves."""

_MESSAGES = {
    Obstacle.UNHEALTHY: "it does not answer{detail}",
    Obstacle.SATURATED: "it is busy{left}",
    Obstacle.LOADING: "it is loading the model",
    Obstacle.MODEL_MISSING: "it does not have the model {model}{left}",
    Obstacle.DRILL: "a drill treats it as down{left}",
    Obstacle.AT_LIMIT: "it has as many requests as limits.maxInFlight allows",
    Obstacle.DENIED: "it refuses our credential{left}: check the Secret and the account",
}


def order(route: Route, health: Health, now: float, *, fallback: bool = True) -> Ordering:
    """All candidates of `route` and everything excluded. `fallback` is False when the caller wants the first target
    only; the route's own `fallback` is heeded as well."""
    candidates: list[Candidate] = []
    excluded: list[Excluded] = []
    ramping: list[Candidate] = []
    poor: list[tuple[int, Target, Endpoint]] = []
    targets = route.targets
    if not (fallback and route.fallback):
        excluded += [Excluded(t, Barred.FALLBACK_OFF, "fallback is off for this request") for t in targets[1:]]
        targets = targets[:1]
    for target in targets:
        usable: list[tuple[int, Endpoint]] = []
        ramp: list[tuple[int, Endpoint]] = []
        worst: list[tuple[Hindrance, EndpointMachine]] = []
        for endpoint in target.backend.endpoints:
            machine = health.machine(endpoint.key)
            hindrance = machine.hindrance(target.upstream_model, _version(target), now) if machine else None
            if hindrance is None:
                usable.append((machine.load if machine else 0, endpoint))
            elif hindrance.obstacle is Obstacle.RAMPING:
                ramp.append((machine.load if machine else 0, endpoint))
            else:
                assert machine is not None
                worst.append((hindrance, machine))
                if hindrance.obstacle in _LEAST_BAD and not machine.trials:
                    poor.append((_LEAST_BAD.index(hindrance.obstacle), target, endpoint))
        if usable:
            candidates.append(Candidate(target, _sorted(usable)))
        elif ramp:
            ramping.append(Candidate(target, _sorted(ramp), Place.RAMPING))
        else:
            excluded.append(_excluded(target, worst, now))
    candidates += ramping
    if not candidates and poor and route.try_one_when_all_unhealthy:
        poor.sort(key=lambda p: p[0])
        candidates += [Candidate(target, (endpoint,), Place.LEAST_BAD) for _, target, endpoint in poor]
    excluded += [Excluded(b, Barred(b.problem.value), b.message) for b in route.broken]
    return Ordering(tuple(candidates), tuple(excluded))


def first_choice(route: Route, health: Health) -> tuple[Target, Endpoint] | None:
    """The head of `order` when it is plain to see: the first target has one endpoint and nothing stands in its way.
    None means: ask `order`. It is the same answer, without the list."""
    if not route.targets:
        return None
    target = route.targets[0]
    endpoints = target.backend.endpoints
    if len(endpoints) != 1:
        return None
    machine = health.machine(endpoints[0].key)
    return (target, endpoints[0]) if machine is None or machine.clear else None


def target_states(route: Route, health: Health, now: float) -> Iterator[tuple[Target | BrokenTarget, Excluded | None]]:
    """Each target of the route with what bars it, all by itself; None when it could serve."""
    for target in route.targets:
        hindrances = []
        for endpoint in target.backend.endpoints:
            machine = health.machine(endpoint.key)
            hindrance = machine.hindrance(target.upstream_model, _version(target), now) if machine else None
            if machine is None or hindrance is None or hindrance.obstacle in _SERVES:
                yield target, None
                break
            hindrances.append((hindrance, machine))
        else:
            yield target, _excluded(target, hindrances, now)
    for broken in route.broken:
        yield broken, Excluded(broken, Barred(broken.problem.value), broken.message)


def _version(target: Target) -> str:
    credential = target.backend.credential
    return credential.version if credential else ""


def _sorted(endpoints: list[tuple[int, Endpoint]]) -> tuple[Endpoint, ...]:
    return tuple(e for _, e in sorted(endpoints, key=lambda pair: pair[0]))


def _excluded(target: Target, found: list[tuple[Hindrance, EndpointMachine]], now: float) -> Excluded:
    if not found:
        return Excluded(target, Barred.NO_ENDPOINT, "no pod of it is ready")
    order = list(Obstacle)
    # A limit says most: it is over with the first request that ends.
    hindrance, machine = min(
        found,
        key=lambda f: (
            f[0].obstacle is not Obstacle.AT_LIMIT, f[0].until or float("inf"), order.index(f[0].obstacle),
        ),
    )  # fmt: skip
    until = hindrance.until
    left = f", for another {max(1, round(until - now))} s" if until is not None else ""
    detail = f": {machine.message}" if machine.message else ""
    message = _MESSAGES[hindrance.obstacle].format(left=left, detail=detail, model=target.model)
    return Excluded(target, Barred(hindrance.obstacle.value), message, until)
