"""Which backends can serve which model name: the values of the one routing table.

The gateway serves by it, the operator judges `Accepted` and `ResolvedRefs` by it, `pointsman explain` prints by it and
standalone mode loads files into it. Decided here: what a name means. Not here: how resources become a table
(`compiling.py`), who is healthy (`health.py`) and who goes first for one request (`candidates.py`).

A table is an immutable value. A request is served by the table it started with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum

from pointsman.api.conditions import Reason
from pointsman.api.engine import Engine
from pointsman.domain.features import Features
from pointsman.domain.globs import Glob
from pointsman.domain.rules import Match
from pointsman.domain.sharing import ALONE, Crew
from pointsman.domain.strategies import Strategy
from pointsman.domain.strategies.weighted import Weighted
from pointsman.domain.traits import UNDECLARED, Traits
from pointsman.domain.trust import ClientCertificate, Trust


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


class Keeps(Enum):
    """What clients may reach of what a backend has stored."""

    NOTHING = "nothing"
    BY_ID = "what they know the id of"
    ALL = "everything: they may list it, and delete models"


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
    client_certificate: ClientCertificate | None = None
    keeps: Keeps = Keeps.NOTHING
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
    """A route as traffic sees it. `targets` are sorted by rank, then by their place in the spec; those of one rank
    share."""

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
