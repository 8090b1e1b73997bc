"""Which backends can serve which model name: resources compiled to the one routing table.

The gateway serves by it, the operator judges `Accepted` and `ResolvedRefs` by it, `pointsman explain` prints by it and
standalone mode loads files into it: there is no second interpretation. Decided here: what a name means. Not here: who
is healthy (`health.py`) and who goes first for one request (`candidates.py`).

A table is an immutable value. A request is served by the table it started with.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import groupby
from urllib.parse import urlsplit

from pointsman.api import route as api
from pointsman.api.backend import BundleKind, Engine, GenerationMode, GenerationProbe, LLMBackendSpec, Model
from pointsman.api.conditions import Reason
from pointsman.api.objects import LLMBackend, ModelRoute
from pointsman.api.route import (
    DEFAULT_HOLD_TIMEOUT,
    DEFAULT_MAX_HELD,
    Fallback,
    FallbackMode,
    WhenAllUnhealthy,
    WhileCold,
)
from pointsman.api.scalars import seconds
from pointsman.api.source import SourceError, parse_ollama, served_name
from pointsman.domain.features import Features
from pointsman.domain.globs import Glob, is_glob
from pointsman.domain.rules import Match
from pointsman.domain.sharing import ALONE, Crew
from pointsman.domain.strategies import Strategy, strategy_of
from pointsman.domain.strategies.weighted import Weighted
from pointsman.domain.traits import UNDECLARED, Price, Traits
from pointsman.domain.trust import Trust, read_bundle

OLLAMA_PORT = 11434
OLLAMA_KEEP_ALIVE = "5m"
"""Ollama's own default."""


@dataclass(frozen=True)
class Endpoint:
    """One pod or URL of a backend. `key` stays the same while it is the same pod or URL."""

    key: str
    backend: str
    host: str
    """An IP address or host name to dial."""
    port: int
    tls: bool = False
    base_path: str = ""
    """Prefix of every OpenAI path, without a slash at its end: `/v1`."""

    @property
    def address(self) -> str:
        """For people: `10.0.0.7:11434`, or an External's scheme, host, port and path (never credentials)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True)
class Credential:
    """A backend's API key. `version` changes whenever the key does. The value never shows in a repr."""

    secret: str
    """Name of the Secret."""
    version: str
    value: str = field(repr=False)


@dataclass(frozen=True)
class GenerationPolicy:
    """The check by one token. Seconds."""

    interval: float
    timeout: float
    keep_alive: float
    """How long the engine keeps an unused model in memory."""


@dataclass(frozen=True)
class ProbePolicy:
    interval: float
    """Seconds."""
    timeout: float
    """Seconds."""
    failure_threshold: int
    success_threshold: int
    generation: GenerationPolicy | None = None


@dataclass(frozen=True)
class Capacity:
    """What an endpoint takes, of all gateways together."""

    in_flight: int
    """Requests at once."""
    queued: int
    """Requests that may wait for one of these slots."""
    queue_timeout: float
    """Seconds."""


@dataclass(frozen=True)
class Backend:
    """A backend as traffic sees it."""

    name: str
    generation: int
    engine: Engine
    endpoints: tuple[Endpoint, ...]
    models: Mapping[str, str]
    """The name that routes use → the name that is sent to the engine."""
    credential: Credential | None
    probe: ProbePolicy
    traits: Mapping[str, Traits] = field(default_factory=dict)
    """By the name that routes use."""
    capacity: Capacity | None = None
    """Of each endpoint; None: without a limit."""
    host_header: str | None = None
    """What to send as Host; the endpoint's own address when None."""
    trust: Trust | None = None
    """The authorities that its certificate must come from; None: the system's."""
    unreachable: str = ""
    """Why it has no endpoint although it should, in a sentence."""


@dataclass(frozen=True)
class Target:
    """A (backend, model) of a route whose references hold."""

    index: int
    """Its place in `spec.targets`, or in those of its rule."""
    backend: Backend
    model: str
    upstream_model: str
    priority: int
    weight: int | None = None
    traits: Traits = UNDECLARED

    @property
    def rank(self) -> int:
        """Targets of a smaller rank go first, whatever the strategy says."""
        return rank_of(self.priority, self.weight)

    @property
    def share(self) -> int:
        """Its weight among those of its rank."""
        return self.weight or 1

    @property
    def label(self) -> str:
        return f"{self.backend.name}/{self.model}"


def rank_of(priority: int, weight: int | None) -> int:
    """Those of weight 0 stand behind the others of their priority."""
    return 2 * priority + (weight == 0)


@dataclass(frozen=True)
class Tier:
    """The targets of one rank, in the order of the spec, and how they share."""

    targets: tuple[Target, ...]
    strategy: Strategy
    choosy: bool
    """A request could be unfit for one of them."""

    @property
    def rank(self) -> int:
        return self.targets[0].rank


@dataclass(frozen=True)
class Timeouts:
    """Seconds."""

    connect: float
    first_token: float
    answer: float
    idle: float
    total: float


class RefProblem(StrEnum):
    """Why a target of a route cannot be used whatever the health."""

    BACKEND_NOT_FOUND = Reason.BACKEND_NOT_FOUND.value
    MODEL_NOT_FOUND = Reason.MODEL_NOT_FOUND.value
    SECRET_MISSING = Reason.SECRET_MISSING.value
    CA_BUNDLE_MISSING = Reason.CA_BUNDLE_MISSING.value


@dataclass(frozen=True)
class BrokenTarget:
    """A target whose reference does not hold; the others serve."""

    index: int
    backend: str
    model: str
    priority: int
    problem: RefProblem
    message: str
    weight: int | None = None

    @property
    def rank(self) -> int:
        return rank_of(self.priority, self.weight)


@dataclass(frozen=True)
class Hold:
    """How far requests wait for a target that is not ready yet."""

    timeout: float
    """Seconds."""
    most: int
    """Requests of the route, in each gateway."""


@dataclass(frozen=True)
class Hedge:
    """When a stream that is slow to begin is asked of another target too."""

    after: float
    """Seconds without content."""
    priced: bool
    """Also of one that costs money."""


@dataclass(frozen=True)
class Route:
    """A route as traffic sees it. `targets` are sorted by rank, then by their place in the spec."""

    name: str
    generation: int
    models: tuple[str, ...]
    """The names that this route won."""
    targets: tuple[Target, ...]
    broken: tuple[BrokenTarget, ...]
    fallback: bool
    max_attempts: int
    try_one_when_all_unhealthy: bool
    timeouts: Timeouts
    hold: Hold | None = None
    """None: a target that is not ready yet is passed over."""
    hedge: Hedge | None = None
    tiers: tuple[Tier, ...] = ()
    """The targets, grouped by rank."""
    rules: tuple[RouteRule, ...] = ()
    rule: int | None = None
    """This is what the route is for the requests of its rule of that number; None: for all others."""

    def for_request(self, request: Features) -> Route:
        """The route with the targets that this request may have: those of the first rule that matches."""
        for rule in self.rules:
            if rule.match.holds(request):
                return rule.route
        return self

    @property
    def variants(self) -> tuple[Route, ...]:
        """What the route can be: without a rule, and for each of its rules."""
        return (self, *(r.route for r in self.rules))

    @property
    def every_target(self) -> tuple[Target | BrokenTarget, ...]:
        """Each (backend, model) that the route or a rule of it names, once, in the order of the spec."""
        found: dict[tuple[str, str], Target | BrokenTarget] = {}
        for variant in self.variants:
            listed: list[Target | BrokenTarget] = [*variant.targets, *variant.broken]
            for target in sorted(listed, key=lambda t: t.index):
                name = target.backend if isinstance(target, BrokenTarget) else target.backend.name
                found.setdefault((name, target.model), target)
        return tuple(found.values())


@dataclass(frozen=True)
class RouteRule:
    """Other targets for some requests."""

    match: Match
    route: Route


@dataclass(frozen=True)
class NameClash:
    """A name of a route that an older route already has."""

    route: str
    model: str
    winner: str


@dataclass(frozen=True)
class RoutingTable:
    backends: Mapping[str, Backend] = field(default_factory=dict)
    routes: Mapping[str, Route] = field(default_factory=dict)
    names: Mapping[str, Route] = field(default_factory=dict)
    """Model name as clients ask → the route that answers for it. Patterns are not in it: `find` knows them too."""
    patterns: tuple[tuple[Glob, Route], ...] = ()
    """The most specific first."""
    clashes: tuple[NameClash, ...] = ()
    crew: Crew = ALONE
    """The gateways that share the limits."""

    def find(self, model: str) -> tuple[str, Route] | None:
        """The route that answers for a name, and the name or pattern by which it does; None when none does."""
        route = self.names.get(model)
        if route is not None:
            return model, route
        for glob, route in self.patterns:
            if glob.matches(model):
                return glob.pattern, route
        return None

    @property
    def spoken(self) -> list[str]:
        """All names and patterns, sorted: what a client that asked for something else may ask for."""
        return sorted({*self.names, *(glob.pattern for glob, _ in self.patterns)})

    @property
    def headers(self) -> frozenset[bytes]:
        """The request headers that some route asks about, in lower case."""
        wanted = set()
        for route in self.routes.values():
            wanted |= {h.name for rule in route.rules for h in rule.match.headers}
            strategies = (tier.strategy for variant in route.variants for tier in variant.tiers)
            wanted |= {s.header for s in strategies if isinstance(s, Weighted) and s.header is not None}
        return frozenset(wanted)


@dataclass(frozen=True)
class PodEndpoint:
    """A ready, not terminating endpoint from an EndpointSlice."""

    uid: str
    """The pod's UID."""
    host: str
    port: int


@dataclass(frozen=True)
class SecretValue:
    """A Secret's or ConfigMap's data as the gateway or a file gave it."""

    version: str
    data: Mapping[str, str] = field(repr=False)


_NOTHING: Mapping[str, SecretValue] = {}


def compile_table(
    backends: Iterable[LLMBackend],
    routes: Iterable[ModelRoute],
    endpoints: Mapping[str, tuple[PodEndpoint, ...]],
    secrets: Mapping[str, SecretValue],
    crew: Crew = ALONE,
    config_maps: Mapping[str, SecretValue] = _NOTHING,
) -> RoutingTable:
    """Compiles the resources of one namespace.

    `endpoints` holds the pods of each backend that we run (External backends have none), `secrets` and `config_maps`
    those that exist, `crew` the gateways that share the limits. Never raises: what does not resolve becomes a
    `BrokenTarget` or a `NameClash`. Objects under deletion count until they are gone.
    """
    known = {b.meta.name: b for b in backends}
    bundles = {name: ca_bundle(b, secrets, config_maps) for name, b in known.items()}
    compiled = {name: _backend(b, endpoints.get(name, ()), secrets, bundles[name]) for name, b in sorted(known.items())}
    table_routes: dict[str, Route] = {}
    names: dict[str, Route] = {}
    patterns: list[tuple[Glob, Route]] = []
    owner: dict[str, str] = {}
    clashes: list[NameClash] = []
    for route in sorted(routes, key=_seniority):
        won = []
        for model in route.spec.models:
            if model in owner:
                if owner[model] != route.meta.name:
                    clashes.append(NameClash(route.meta.name, model, owner[model]))
                continue
            owner[model] = route.meta.name
            won.append(model)
        value = _route(route, tuple(won), known, compiled, secrets, bundles)
        table_routes[route.meta.name] = value
        names.update((name, value) for name in won if not is_glob(name))
        patterns += [(Glob(name), value) for name in won if is_glob(name)]
    # Stable: of two that are equally specific the senior route's goes first.
    patterns.sort(key=lambda p: p[0].specificity, reverse=True)
    if not any(b.capacity for b in compiled.values()):
        crew = ALONE  # nothing to share: who comes and goes makes no new table
    return RoutingTable(compiled, table_routes, names, tuple(patterns), tuple(clashes), crew)


def missing_secret(backend: LLMBackend, secrets: Mapping[str, SecretValue]) -> str | None:
    """What is wrong with the Secret that an External backend names, in a sentence; None when nothing is."""
    ref = backend.spec.external.secret_ref if backend.spec.external else None
    if ref is None:
        return None
    secret = secrets.get(ref.name)
    if secret is None:
        return f"Secret {ref.name} does not exist: create it with the API key under {ref.key}"
    value = secret.data.get(ref.key, "").strip()
    if not value:
        return f"Secret {ref.name} has no value under the key {ref.key}"
    if not value.isprintable() or not value.isascii():
        return (
            f"the value of Secret {ref.name} under {ref.key} is no API key: it has characters that no header may carry"
        )
    return None


def ca_bundle(
    backend: LLMBackend, secrets: Mapping[str, SecretValue], config_maps: Mapping[str, SecretValue]
) -> Trust | str | None:
    """The authorities that an External backend names; a sentence when they cannot be had, None when it names none."""
    ref = backend.spec.external.ca_bundle_ref if backend.spec.external else None
    if ref is None:
        return None
    held = (secrets if ref.kind is BundleKind.SECRET else config_maps).get(ref.name)
    return read_bundle(ref, held.data if held is not None else None)


def _seniority(route: ModelRoute) -> tuple[str, str]:
    # RFC 3339 UTC sorts as text; an object from a file has no age and comes after those that have.
    return (route.meta.created or "~", route.meta.name)


def _backend(
    backend: LLMBackend,
    pods: tuple[PodEndpoint, ...],
    secrets: Mapping[str, SecretValue],
    bundle: Trust | str | None,
) -> Backend:
    spec = backend.spec
    name = backend.meta.name
    host_header = None
    credential = None
    if spec.external is not None:
        url = urlsplit(spec.external.url)
        tls = url.scheme == "https"
        port = url.port or (443 if tls else 80)
        host_header = url.netloc
        # Two backends may name one URL, with different keys and models: each has its own endpoint, with its own health.
        endpoint = Endpoint(f"{name} {spec.external.url}", name, url.hostname or "", port, tls, url.path.rstrip("/"))
        # Without its own authorities nobody may take the system's in their place: there is no way to it then.
        endpoints: tuple[Endpoint, ...] = () if isinstance(bundle, str) else (endpoint,)
        models = {m.name: m.name for m in spec.models}
        ref = spec.external.secret_ref
        if ref is not None and missing_secret(backend, secrets) is None:
            secret = secrets[ref.name]
            credential = Credential(ref.name, secret.version, secret.data[ref.key].strip())
    else:
        endpoints = tuple(
            Endpoint(p.uid, name, p.host, p.port, False, "/v1") for p in sorted(pods, key=lambda p: p.uid)
        )
        pulled = {m.name: m.digest for m in backend.status.models if m.digest}
        models = {m.name: _sent_name(m, pulled.get(m.name, "")) for m in spec.models}
    probe = spec.probe
    return Backend(
        name=name,
        generation=backend.meta.generation,
        engine=spec.engine,
        endpoints=endpoints,
        models=models,
        credential=credential,
        probe=ProbePolicy(
            spec.probe_interval_seconds,
            seconds(probe.timeout),
            probe.failure_threshold,
            probe.success_threshold,
            _generation(spec),
        ),
        traits={m.name: _traits(m, spec) for m in spec.models},
        capacity=_capacity(spec),
        host_header=host_header,
        trust=bundle if isinstance(bundle, Trust) else None,
        unreachable=bundle if isinstance(bundle, str) else "",
    )


def _traits(model: Model, spec: LLMBackendSpec) -> Traits:
    return Traits(frozenset(model.capabilities), model.context_length, Price.of(model.pricing or spec.pricing))


def _capacity(spec: LLMBackendSpec) -> Capacity | None:
    in_flight = spec.max_in_flight
    if in_flight is None:
        return None
    return Capacity(in_flight, spec.max_queued_or_default, spec.queue_timeout_seconds)


def _generation(spec: LLMBackendSpec) -> GenerationPolicy | None:
    """Whoever pays by the token decides for himself whether a check may cost one."""
    probe = spec.probe.generation
    if probe is None:
        if spec.engine is Engine.EXTERNAL:
            return None
        probe = GenerationProbe()
    if probe.mode is GenerationMode.DISABLED:
        return None
    kept = spec.ollama.keep_alive if spec.ollama else None
    return GenerationPolicy(seconds(probe.interval), seconds(probe.timeout), seconds(kept or OLLAMA_KEEP_ALIVE))


def _sent_name(model: Model, digest: str) -> str:
    """Once pulled, the name of exactly that digest: an update of the tag cannot change what a request gets."""
    try:
        source = parse_ollama(model.source or "")
    except SourceError:
        return model.name  # the operator says what is wrong with the source; the engine will not know the name
    return served_name(source, digest) if digest else source.short_name


def _route(
    route: ModelRoute,
    won: tuple[str, ...],
    known: Mapping[str, LLMBackend],
    compiled: Mapping[str, Backend],
    secrets: Mapping[str, SecretValue],
    bundles: Mapping[str, Trust | str | None],
) -> Route:
    spec = route.spec
    targets, broken = _targets(spec.targets, known, compiled, secrets, bundles)
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
        targets, broken = _targets(rule.targets, known, compiled, secrets, bundles)
        variant = replace(value, targets=targets, broken=broken, tiers=_tiers(spec, targets), rule=number)
        rules.append(RouteRule(Match.of(rule.match), variant))
    return replace(value, rules=tuple(rules))


def _targets(
    listed: Sequence[api.Target],
    known: Mapping[str, LLMBackend],
    compiled: Mapping[str, Backend],
    secrets: Mapping[str, SecretValue],
    bundles: Mapping[str, Trust | str | None],
) -> tuple[tuple[Target, ...], tuple[BrokenTarget, ...]]:
    """Those whose references hold, sorted by rank, and the others."""
    targets: list[Target] = []
    broken: list[BrokenTarget] = []
    for index, t in enumerate(listed):
        backend = known.get(t.backend)
        if backend is None:
            problem, message = RefProblem.BACKEND_NOT_FOUND, f"LLMBackend {t.backend} does not exist in this namespace"
        elif t.model not in compiled[t.backend].models:
            has = ", ".join(m.name for m in backend.spec.models)
            problem, message = (
                RefProblem.MODEL_NOT_FOUND,
                f"LLMBackend {t.backend} has no model {t.model}; it has {has}",
            )
        elif (secret := missing_secret(backend, secrets)) is not None:
            problem, message = RefProblem.SECRET_MISSING, f"LLMBackend {t.backend}: {secret}"
        elif isinstance(bundle := bundles[t.backend], str):
            problem, message = RefProblem.CA_BUNDLE_MISSING, f"LLMBackend {t.backend}: {bundle}"
        else:
            value = compiled[t.backend]
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
