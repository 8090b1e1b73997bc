"""Resources compiled to the one routing table.

Decided here: what each field of a resource means for traffic, and what is said of a reference that does not hold. Not
here: the values themselves (`table.py`). There is no second interpretation: gateway, operator, `explain` and standalone
mode all compile with this.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from urllib.parse import urlsplit

from pointsman.api import route as api
from pointsman.api.backend import LLMBackendSpec
from pointsman.api.engine import Engine
from pointsman.api.model import Model
from pointsman.api.objects import LLMBackend, ModelRoute
from pointsman.api.options.external import Stored
from pointsman.api.probing import GenerationMode, GenerationProbe
from pointsman.api.references import BundleKind
from pointsman.api.route import (
    DEFAULT_HOLD_TIMEOUT,
    DEFAULT_MAX_HELD,
    Fallback,
    FallbackMode,
    WhenAllUnhealthy,
    WhileCold,
)
from pointsman.api.scalars import seconds
from pointsman.api.sources.error import SourceError
from pointsman.api.sources.ollama import OllamaSource, served_name
from pointsman.api.sources.source import parse_source
from pointsman.domain.globs import Glob, is_glob
from pointsman.domain.rules import Match
from pointsman.domain.sharing import ALONE, Crew
from pointsman.domain.strategies import strategy_of
from pointsman.domain.table import (
    Backend,
    BrokenTarget,
    Capacity,
    Credential,
    Endpoint,
    GenerationPolicy,
    Hedge,
    Hold,
    Keeps,
    NameClash,
    PodEndpoint,
    ProbePolicy,
    RefProblem,
    Route,
    RouteRule,
    RoutingTable,
    SecretValue,
    Target,
    Tier,
    Timeouts,
)
from pointsman.domain.traits import Price, Traits
from pointsman.domain.trust import ClientCertificate, Trust, read_bundle, read_client_certificate

OLLAMA_KEEP_ALIVE = "5m"
"""Ollama's own default."""


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
    """What is wrong with the Secrets that an External backend names, in a sentence; None when nothing is."""
    shown = client_certificate(backend, secrets)
    return _missing_key(backend, secrets) or (shown if isinstance(shown, str) else None)


def client_certificate(backend: LLMBackend, secrets: Mapping[str, SecretValue]) -> ClientCertificate | str | None:
    """What an External backend is to be shown; a sentence when it cannot be had, None when it wants none."""
    ref = backend.spec.external.client_certificate_ref if backend.spec.external else None
    if ref is None:
        return None
    held = secrets.get(ref.name)
    return read_client_certificate(ref.name, held.data if held is not None else None)


def _missing_key(backend: LLMBackend, secrets: Mapping[str, SecretValue]) -> str | None:
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
    shown = client_certificate(backend, secrets)
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
        if ref is not None and _missing_key(backend, secrets) is None:
            secret = secrets[ref.name]
            credential = Credential(ref.name, secret.version, secret.data[ref.key].strip())
    else:
        endpoints = tuple(
            Endpoint(p.uid, name, p.host, p.port, False, "/v1") for p in sorted(pods, key=lambda p: p.uid)
        )
        pulled = {m.name: m.digest for m in backend.status.models if m.digest}
        if spec.fills_pods:  # pods that were started at other times may have other models, but for those with a pin
            pulled = {m.name: m.digest or "" for m in spec.served}
        models = {m.name: _sent_name(m, pulled.get(m.name, "")) for m in spec.served}
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
        traits={m.name: _traits(m, spec) for m in spec.served},
        keeps=_keeps(spec),
        capacity=_capacity(spec),
        host_header=host_header,
        trust=bundle if isinstance(bundle, Trust) else None,
        client_certificate=shown if isinstance(shown, ClientCertificate) else None,
        unreachable=bundle if isinstance(bundle, str) else "",
    )


_STORED = {Stored.NONE: Keeps.NOTHING, Stored.BY_ID: Keeps.BY_ID, Stored.ALL: Keeps.ALL}


def _keeps(spec: LLMBackendSpec) -> Keeps:
    """Of the engines that we run, vLLM can keep responses, and who knows what an image of somebody's own does."""
    if spec.external is not None:
        return _STORED[spec.external.stored]
    return Keeps.BY_ID if spec.engine in (Engine.VLLM, Engine.CUSTOM) else Keeps.NOTHING


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
        source = parse_source(model.source or "")
    except SourceError:
        return model.name  # the operator says what is wrong with the source; the engine will not know the name
    if not isinstance(source, OllamaSource):
        return model.name  # the server is told at its start to answer to it
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
            has = ", ".join(m.name for m in backend.spec.served)
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
