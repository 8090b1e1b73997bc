"""What the reports of several gateways amount to. Pure.

Rules: only ready gateways count; a report older than `SILENT_AFTER_SECONDS` is ignored; a judgement of another
generation is none. `Health` is the majority's, a tie keeps what was said before, dissent stands in the message. A route
serves only if every ready gateway serves this generation with a usable target. The newest fallback wins. The load of a
backend is the sum of all gateways', whatever generation they serve.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import median

from pointsman.domain.report import (
    HEARTBEAT_SECONDS,
    SILENT_AFTER_SECONDS,
    BackendHealth,
    FallbackEvent,
    GatewayReport,
    RouteReport,
    TargetState,
)
from pointsman.domain.scaling import Load

UP = frozenset({"Healthy", "Degraded", "Probation"})
JUDGED = UP | {"Unhealthy"}
"""Other words are no vote: `Unknown`, and what a gateway that lies may say."""
PENDING_SECONDS = 10.0
JUST_NOW_SECONDS = 2 * HEARTBEAT_SECONDS
"""Pods are taken away only by reports younger than this."""
FAR = 2.0
NOISE_MS = 10.0
"""Below it is the machine that differs from one check to the next."""
USABLE = frozenset({"Ready", "Unknown"})
"""States of targets that could serve now: what nobody has judged yet counts, as it does for traffic."""


@dataclass(frozen=True)
class Received:
    """A report and when it came in, in seconds of the reader's own clock."""

    report: GatewayReport
    at: float

    @cached_property
    def backends(self) -> Mapping[str, BackendHealth]:
        """By name."""
        return {b.name: b for b in self.report.backends}


@dataclass(frozen=True)
class Gateways:
    """The ready gateways of a namespace and what each last said."""

    ready: tuple[str, ...] = ()
    """Names of the pods."""
    reports: Mapping[str, GatewayReport] = field(default_factory=dict)
    """Fresh reports of ready gateways only, by pod."""
    pending: bool = False
    """A gateway has become ready, or the reader has begun, so lately that its first report may be on its way: what was
    said before still holds."""


@dataclass(frozen=True)
class Health:
    """`up` None: nobody knows."""

    up: bool | None = None
    state: str = "Unknown"
    reason: str = ""
    message: str = ""
    since: float = 0.0
    latency_ms: float | None = None


@dataclass(frozen=True)
class RouteView:
    """`serving` None: some ready gateway has not said."""

    serving: bool | None
    cause: str
    """Serving, NoReport, GatewayNotReady, OldGeneration or NoUsableTarget."""
    message: str
    targets: tuple[TargetState, ...]
    last_fallback: FallbackEvent | None


def gateways(
    ready: Iterable[str], received: Mapping[str, Received], first_seen: Mapping[str, float], now: float
) -> Gateways:
    """What counts. All times are of one clock; `first_seen`: when each gateway was first seen ready."""
    names = tuple(sorted(ready))
    fresh = {
        name: received[name].report
        for name in names
        if name in received and now - received[name].at <= SILENT_AFTER_SECONDS
    }
    pending = any(n not in received and now - first_seen.get(n, now) <= PENDING_SECONDS for n in names)
    return Gateways(names, fresh, pending)


def fold_backend(name: str, generation: int, view: Gateways, was_up: bool | None) -> Health:
    """`was_up`: what was said before, which a tie keeps."""
    votes = [
        health
        for report in view.reports.values()
        for health in report.backends
        if health.name == name and health.generation == generation and health.state in JUDGED
    ]
    if not votes:
        return Health()
    ups = [v for v in votes if v.state in UP]
    downs = [v for v in votes if v.state not in UP]
    up = was_up if len(ups) == len(downs) and was_up is not None else len(ups) >= len(downs)
    side = ups if up else downs
    other = downs if up else ups
    state = _most(v.state for v in side) if side else _most(v.state for v in votes)
    speaker = max((v for v in (side or votes) if v.state == state), key=_told)
    message = speaker.message
    if other:
        word = "unhealthy" if up else "healthy"
        said = f"{len(other)} of {len(votes)} gateways say it is {word}"
        dissent = max(other, key=_told)
        message = "; ".join(filter(None, (message, f"{said}: {dissent.message}" if dissent.message else said)))
    latencies = [v.latency_ms for v in side if v.latency_ms is not None]
    return Health(
        up=up,
        state=state,
        reason=speaker.reason,
        message=message,
        since=min((v.since for v in side if v.since), default=0.0),
        latency_ms=median(latencies) if latencies else None,
    )


def load_of(
    name: str, ready: Collection[str], leaving: Iterable[str], received: Mapping[str, Received], now: float
) -> Load:
    """What all gateways have to do with a backend now. Those that leave still finish their streams: they count, but
    nobody waits for their word."""
    requests, ages, complete = 0, [], bool(ready)
    own: Counter[str] = Counter()
    told: dict[str, int] = {}
    for gateway in (*ready, *leaving):
        got = received.get(gateway)
        passed = now - got.at if got is not None else 0.0
        health = got.backends.get(name) if got is not None and passed <= SILENT_AFTER_SECONDS else None
        if gateway in ready and (health is None or passed > JUST_NOW_SECONDS):
            complete = False
        if got is None or health is None:
            continue
        requests += max(0, health.requests)
        for endpoint in health.endpoints:
            own[endpoint.address] += endpoint.in_flight
            if endpoint.running is not None:
                has = endpoint.running + endpoint.waiting
                told[endpoint.address] = max(has, told.get(endpoint.address, 0))
        if health.requests > 0:
            ages.append(0.0)
        elif health.active_at:
            ages.append(max(0.0, got.report.at - health.active_at) + passed)
    elsewhere = sum(max(0, has - own[address]) for address, has in told.items())
    return Load(requests, elsewhere, min(ages, default=None), complete)


def fold_route(name: str, generation: int, targets: Sequence[tuple[str, str]], view: Gateways) -> RouteView:
    """`targets`: (backend, model) as in the spec; the view has one state for each, in that order."""
    seen: list[RouteReport] = []
    silent = old = 0
    for gateway in view.ready:
        report = view.reports.get(gateway)
        route = next((r for r in report.routes if r.name == name), None) if report else None
        if report is None:
            silent += 1
        elif route is None or route.generation != generation:
            old += 1
        else:
            seen.append(route)
    states = tuple(_target(backend, model, seen) for backend, model in targets)
    fallbacks = [r.last_fallback for report in view.reports.values() for r in report.routes
                 if r.name == name and r.last_fallback is not None]  # fmt: skip
    last = max(fallbacks, key=lambda f: f.at, default=None)
    count = len(view.ready)
    unable = sum(1 for r in seen if not r.serving)
    if not count:
        verdict: tuple[bool | None, str, str] = (False, "GatewayNotReady", "no gateway is ready in this namespace")
    elif unable:
        who = "no target can serve now" if unable == count else f"{unable} of {count} gateways have no usable target"
        verdict = (False, "NoUsableTarget", who)
    elif old:
        verdict = (False, "OldGeneration", f"{old} of {count} gateways do not serve this generation yet")
    elif silent:
        verdict = (None, "NoReport", f"{silent} of {count} gateways have not reported")
    else:
        verdict = (True, "Serving", "")
    return RouteView(*verdict, targets=states, last_fallback=last)


def told_latency(milliseconds: float | None, said: int | None) -> int | None:
    """A latency that rarely changes: what was `said` before while that is not off by more than a factor of `FAR`."""
    if milliseconds is None:
        return None
    if said is not None:
        small, large = sorted((max(milliseconds, NOISE_MS), max(said, NOISE_MS)))
        if large <= FAR * small:
            return said
    return rounded(milliseconds)


def rounded(milliseconds: float | None) -> int | None:
    """To one or two leading digits, in steps of about a quarter."""
    if milliseconds is None:
        return None
    scale = 1
    while milliseconds >= 10 * scale:
        scale *= 10
    for step in (1, 1.5, 2, 3, 5, 7):
        if milliseconds < step * scale * 1.2:
            return max(1, round(step * scale))
    return 10 * scale


def _target(backend: str, model: str, routes: Sequence[RouteReport]) -> TargetState:
    states = [t for r in routes for t in r.targets if (t.backend, t.model) == (backend, model)]
    if not states:
        return TargetState(backend=backend, model=model, state="Unknown")
    state = _most(t.state for t in states)
    same = [t for t in states if t.state == state]
    return TargetState(
        backend=backend,
        model=model,
        state=state,
        reason=max(same, key=lambda t: (t.since, t.reason)).reason,
        since=min((t.since for t in same if t.since), default=0.0),
    )


def _told(health: BackendHealth) -> tuple[float, str, str]:
    return (health.since, health.reason, health.message)


def _most(words: Iterable[str]) -> str:
    """The most frequent word; of several, the first by alphabet, so that the answer does not wander."""
    counts = Counter(words)
    return min(counts, key=lambda w: (-counts[w], w))
