"""Who may answer this request, in which order, and why not the others.

Decided here: the order of candidates and the reason for each exclusion; `pointsman explain` prints exactly this. Not
here: how many attempts are made of it (`attempts.py`) and who is healthy (`health.py`).

A candidate is a target with the endpoints of it that may be asked now, the best first. The order is by priority; within
one, by the route's strategy (`strategies/`); endpoints in the middle of their ramp come after everything else that is
usable. A target that cannot take the request is none, for what its model declares. A prompt that seems too long for a
model is no candidate of it either while there is any other: it is an estimate, which alone refuses nobody. When nothing
is usable and the route says TryOne, the least bad endpoints follow, each with one trial in flight at most
(`attempts.py` spends one attempt on them).

With fallback off there is one candidate, of the first priority: choosing among equals is no fallback.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeVar

from pointsman.api.route import Needed
from pointsman.domain.features import PLAIN, Features
from pointsman.domain.flags import Hindrance, Obstacle
from pointsman.domain.health import EndpointMachine, Thresholds
from pointsman.domain.strategies import Seat, arranged, first
from pointsman.domain.table import BrokenTarget, Endpoint, Route, Target, Tier

S = TypeVar("S", bound=Seat)


class Health(Protocol):
    """What the order needs to know of endpoints; `HealthBook` is one."""

    def machine(self, key: str) -> EndpointMachine | None: ...


class Place(StrEnum):
    """Why a candidate stands where it does."""

    PRIORITY = "Priority"
    RAMPING = "Ramping"
    TOO_LONG = "TooLong"
    """The prompt seems too long for it, and there is nobody else."""
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
    UNFIT = "Unfit"
    TOO_LONG = "TooLong"
    DRILL = "Drill"
    FALLBACK_OFF = "FallbackOff"
    UNKNOWN_OPERATION = "UnknownOperation"
    ELSEWHERE = "Elsewhere"
    """What the request continues is kept by another."""
    BACKEND_NOT_FOUND = "BackendNotFound"
    MODEL_NOT_FOUND = "ModelNotFound"
    SECRET_MISSING = "SecretMissing"  # noqa: S105
    CA_BUNDLE_MISSING = "CaBundleMissing"


@dataclass(frozen=True)
class Candidate:
    target: Target
    endpoints: tuple[Endpoint, ...]
    """The best first."""
    place: Place = Place.PRIORITY


@dataclass(frozen=True)
class Excluded:
    target: Target | BrokenTarget
    reason: Barred
    message: str
    """The same for as long as nothing changes: reports carry it, and what changes in them is written to the cluster."""
    until: float | None = None
    """When the reason ends by itself, by the clock of `now`."""

    @property
    def backend(self) -> str:
        return self.target.backend if isinstance(self.target, BrokenTarget) else self.target.backend.name

    def told(self, now: float) -> str:
        """The message to somebody who asks now: with what is left of it."""
        left = f", for another {max(1, round(self.until - now))} s" if self.until is not None else ""
        return self.message + left


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
    Obstacle.SATURATED: "it is busy",
    Obstacle.LOADING: "it is loading the model",
    Obstacle.MODEL_MISSING: "it does not have the model {model}",
    Obstacle.DRILL: "a drill treats it as down",
    Obstacle.AT_LIMIT: "it has as many requests as limits.maxInFlight allows",
    Obstacle.DENIED: "it refuses our credential: check the Secret and the account",
}


_UNSEEN = EndpointMachine(Thresholds(1, 1), 0.0)
"""For an endpoint that the book does not know: nothing is known of it. Never written to."""


def order(route: Route, health: Health, now: float, request: Features = PLAIN, *, fallback: bool = True) -> Ordering:
    """All candidates of `route` for this request and everything excluded. `fallback` is False when the caller wants one
    target only; the route's own `fallback` is heeded as well."""
    route = route.for_request(request)
    candidates: list[Candidate] = []
    excluded: list[Excluded] = []
    ramping: list[Candidate] = []
    long: list[tuple[Candidate, Excluded]] = []
    poor: list[tuple[int, Target, Endpoint]] = []
    tiers = route.tiers
    only = not (fallback and route.fallback)
    if only:
        excluded += [_not_asked(t) for tier in tiers[1:] for t in tier.targets]
        tiers = tiers[:1]
    for tier in tiers:
        chairs: list[Seat] = []
        ramp: list[Seat] = []
        lengthy: dict[int, tuple[list[Seat], Excluded]] = {}
        for target in tier.targets:
            reason = unfit(target, request) if target.traits.choosy else None
            if reason is not None and reason.reason is Barred.UNFIT:
                excluded.append(reason)
                continue
            usable: list[Seat] = []
            rising: list[Seat] = []
            worst: list[tuple[Hindrance, EndpointMachine]] = []
            for endpoint in target.backend.endpoints:
                machine = health.machine(endpoint.key) or _UNSEEN
                hindrance = machine.hindrance(target.upstream_model, _version(target), now)
                if hindrance is None:
                    usable.append(Seat(target, endpoint, machine))
                elif hindrance.obstacle is Obstacle.RAMPING:
                    # Who held for this pod shall have it.
                    waited = machine.fresh and route.hold is not None
                    (usable if waited else rising).append(Seat(target, endpoint, machine))
                else:
                    worst.append((hindrance, machine))
                    if hindrance.obstacle in _LEAST_BAD and not machine.trials and machine.has_room:
                        poor.append((_LEAST_BAD.index(hindrance.obstacle), target, endpoint))
            if reason is not None:
                if usable or rising:
                    lengthy[target.index] = (usable or rising, reason)
                else:
                    excluded.append(reason)
            elif usable:
                chairs += usable
            elif rising:
                ramp += rising
            else:
                excluded.append(_excluded(target, worst))
        candidates += _ranked(tier, chairs, request, now, Place.PRIORITY)
        ramping += _ranked(tier, ramp, request, now, Place.RAMPING)
        crowd = [chair for found, _ in lengthy.values() for chair in found]
        ranked = _ranked(tier, crowd, request, now, Place.TOO_LONG)
        long += [(c, lengthy[c.target.index][1]) for c in ranked]
    candidates += ramping
    if candidates:
        excluded += [reason for _, reason in long]
    else:
        candidates += [c for c, _ in long]
    if not candidates and poor and route.try_one_when_all_unhealthy:
        poor.sort(key=lambda p: p[0])
        candidates += [Candidate(target, (endpoint,), Place.LEAST_BAD) for _, target, endpoint in poor]
    if only and candidates:
        head = candidates[0].target
        excluded += [_not_asked(c.target) for c in candidates[1:] if c.place is not Place.LEAST_BAD]
        candidates = [c for c in candidates if c.target is head]
    excluded += [Excluded(b, Barred(b.problem.value), b.message) for b in route.broken]
    return Ordering(tuple(candidates), tuple(excluded))


def first_choice(tier: Tier, seats: tuple[S, ...], request: Features, now: float) -> S | None:
    """The head of `order` when nothing stands in the way of anyone: without the list. `seats` are all endpoints of the
    route's first tier; None means: ask `order`."""
    for seat in seats:
        if not seat.machine.clear:
            return None
    if tier.choosy and any(unfit(target, request) is not None for target in tier.targets):
        return None
    return first(tier.strategy, seats, request, now)


def unfit(target: Target, request: Features) -> Excluded | None:
    """Why the request is none for this target, by what its model declares; None when it may be."""
    traits = target.traits
    needs = request.needs
    lacks = traits.lacks(needs)
    if lacks:
        words = " and ".join(n.value for n in lacks)
        return Excluded(target, Barred.UNFIT, f"the request needs {words}, which its capabilities do not have")
    if traits.only_embeds and Needed.EMBEDDINGS not in needs:
        return Excluded(target, Barred.UNFIT, "its capabilities say that it only makes embeddings")
    limit = traits.context_length
    if limit is not None and request.prompt_tokens > limit:
        message = f"the prompt has about {request.prompt_tokens} tokens, its contextLength is {limit}"
        return Excluded(target, Barred.TOO_LONG, message)
    return None


def _ranked(tier: Tier, chairs: list[Seat], request: Features, now: float, place: Place) -> list[Candidate]:
    """Candidates in the order of their best endpoints."""
    if len(chairs) == 1:
        return [Candidate(chairs[0].target, (chairs[0].endpoint,), place)]
    found: dict[int, tuple[Target, list[Endpoint]]] = {}
    for chair in arranged(tier.strategy, tuple(chairs), request, now):
        found.setdefault(chair.target.index, (chair.target, []))[1].append(chair.endpoint)
    return [Candidate(target, tuple(endpoints), place) for target, endpoints in found.values()]


def _not_asked(target: Target) -> Excluded:
    return Excluded(target, Barred.FALLBACK_OFF, "fallback is off for this request")


def target_states(route: Route, health: Health, now: float) -> Iterator[tuple[Target | BrokenTarget, Excluded | None]]:
    """Each target of the route and of its rules with what bars it, all by itself; None when it could serve. One at its
    limit does serve: that comes and goes with each request."""
    for target in route.every_target:
        yield target, barred(target, health, now)


def barred(target: Target | BrokenTarget, health: Health, now: float) -> Excluded | None:
    """What bars it from serving anybody; None when nothing does."""
    if isinstance(target, BrokenTarget):
        return Excluded(target, Barred(target.problem.value), target.message)
    hindrances = []
    for endpoint in target.backend.endpoints:
        machine = health.machine(endpoint.key)
        hindrance = machine.hindrance(target.upstream_model, _version(target), now) if machine else None
        if machine is None or hindrance is None or hindrance.obstacle in _SERVES:
            return None
        hindrances.append((hindrance, machine))
    return _excluded(target, hindrances)


def chair_of(target: Target, endpoint: Endpoint, health: Health) -> Seat:
    return Seat(target, endpoint, health.machine(endpoint.key) or _UNSEEN)


def _version(target: Target) -> str:
    credential = target.backend.credential
    return credential.version if credential else ""


def _excluded(target: Target, found: list[tuple[Hindrance, EndpointMachine]]) -> Excluded:
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
    detail = f": {machine.message}" if machine.message else ""
    message = _MESSAGES[hindrance.obstacle].format(detail=detail, model=target.model)
    return Excluded(target, Barred(hindrance.obstacle.value), message, hindrance.until)
