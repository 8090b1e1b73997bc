"""Resources compiled to the one routing table.

Decided here: which route answers for which name, and what is compiled anew. Not here: what each field means
(`compiling_backend.py`, `compiling_route.py`), and the values themselves (`table.py`). There is no second
interpretation: gateway, operator, `explain` and standalone mode all compile with this.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pointsman.api.objects import LLMBackend, ModelRoute
from pointsman.domain.compiling_backend import Part, part_of
from pointsman.domain.compiling_route import compile_route
from pointsman.domain.globs import Glob, is_glob
from pointsman.domain.references import references
from pointsman.domain.sharing import ALONE, Crew
from pointsman.domain.table import NameClash, PodEndpoint, Route, RoutingTable, SecretValue

_NOTHING: Mapping[str, SecretValue] = {}


@dataclass(frozen=True)
class _Compiled:
    """A route, and what it was compiled from."""

    source: ModelRoute
    won: tuple[str, ...]
    named: tuple[str, ...]
    """Backends."""
    parts: tuple[Part | None, ...]
    """Of those."""
    route: Route

    def stands_on(self, parts: Mapping[str, Part]) -> bool:
        return all(parts.get(name) is part for name, part in zip(self.named, self.parts, strict=True))


class Compiler:
    """Compiles the same namespace again and again: only what has changed, and what names it, is compiled anew; what has
    not is the very same object. A thousand backends and routes of which one has changed take a few ms, not 50. For that
    what has not changed should come as the same object too (`parsed.py`): comparing two takes its time."""

    def __init__(self) -> None:
        self._parts: dict[str, tuple[Any, Part]] = {}
        self._routes: dict[str, _Compiled] = {}

    def compile(
        self,
        backends: Iterable[LLMBackend],
        routes: Iterable[ModelRoute],
        endpoints: Mapping[str, tuple[PodEndpoint, ...]],
        secrets: Mapping[str, SecretValue],
        crew: Crew = ALONE,
        config_maps: Mapping[str, SecretValue] = _NOTHING,
    ) -> RoutingTable:
        """As `compile_table`."""
        parts = self._compile_backends(backends, endpoints, secrets, config_maps)
        kept: dict[str, _Compiled] = {}
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
            kept[route.meta.name] = compiled = self._compile_route(route, tuple(won), parts)
            names.update((name, compiled.route) for name in won if not is_glob(name))
            patterns += [(Glob(name), compiled.route) for name in won if is_glob(name)]
        self._routes = kept
        # Stable: of two that are equally specific the senior route's goes first.
        patterns.sort(key=lambda p: p[0].specificity, reverse=True)
        compiled_backends = {name: part.backend for name, part in parts.items()}
        if not any(b.capacity for b in compiled_backends.values()):
            crew = ALONE  # nothing to share: who comes and goes makes no new table
        compiled_routes = {name: c.route for name, c in kept.items()}
        return RoutingTable(compiled_backends, compiled_routes, names, tuple(patterns), tuple(clashes), crew)

    def _compile_backends(
        self,
        backends: Iterable[LLMBackend],
        endpoints: Mapping[str, tuple[PodEndpoint, ...]],
        secrets: Mapping[str, SecretValue],
        config_maps: Mapping[str, SecretValue],
    ) -> dict[str, Part]:
        kept: dict[str, tuple[Any, Part]] = {}
        for backend in sorted(backends, key=lambda b: b.meta.name):
            name, pods = backend.meta.name, endpoints.get(backend.meta.name, ())
            source = backend, pods, _held(backend, secrets, config_maps)
            known = self._parts.get(name)
            if known is None or known[0] != source:
                known = source, part_of(backend, pods, secrets, config_maps)
            kept[name] = known
        self._parts = kept
        return {name: part for name, (_, part) in kept.items()}

    def _compile_route(self, route: ModelRoute, won: tuple[str, ...], parts: Mapping[str, Part]) -> _Compiled:
        known = self._routes.get(route.meta.name)
        if known is not None and (known.source, known.won) == (route, won) and known.stands_on(parts):
            return known
        named = tuple(dict.fromkeys(backend for backend, _ in route.spec.names_of_targets))
        return _Compiled(route, won, named, tuple(parts.get(n) for n in named), compile_route(route, won, parts))


def _held(
    backend: LLMBackend, secrets: Mapping[str, SecretValue], config_maps: Mapping[str, SecretValue]
) -> tuple[list[SecretValue | None], list[SecretValue | None]]:
    """What there is of what the backend names."""
    named = references((backend,))
    return [secrets.get(n) for n in sorted(named.secrets)], [config_maps.get(n) for n in sorted(named.config_maps)]


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
    return Compiler().compile(backends, routes, endpoints, secrets, crew, config_maps)


def _seniority(route: ModelRoute) -> tuple[str, str]:
    # RFC 3339 UTC sorts as text; an object from a file has no age and comes after those that have.
    return (route.meta.created or "~", route.meta.name)
