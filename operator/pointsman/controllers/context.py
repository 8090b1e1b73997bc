"""What every reconciler works with."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from pydantic import ValidationError

from pointsman.api import meta
from pointsman.api.objects import LLMBackend, ModelRoute
from pointsman.controllers.book import ReportBook
from pointsman.controllers.settings import Settings
from pointsman.domain.compiling import Compiler
from pointsman.domain.parsed import Parsed
from pointsman.domain.references import References, pull_secrets, references
from pointsman.domain.table import RoutingTable, SecretValue
from pointsman.kube.cache import Cache
from pointsman.kube.client import ApplyClient
from pointsman.kube.kinds import Kinds
from pointsman.kube.resources import BACKENDS, PODS, ROUTES, Obj, is_deleting
from pointsman.kube.secrets import SecretShape


class Secrets(Protocol):
    """Who knows which Secrets (or ConfigMaps) exist."""

    async def shape(self, namespace: str, name: str) -> SecretShape | None: ...

    async def identity(self, namespace: str, name: str) -> str | None: ...


@dataclass
class Context:
    client: ApplyClient
    cache: Cache
    settings: Settings
    secrets: Secrets
    config_maps: Secrets
    kinds: Kinds
    reports: ReportBook = field(default_factory=ReportBook)
    clock: Callable[[], float] = time.time
    """Unix seconds."""
    instance: str = "pointsman"
    """This process's name, in Events."""
    changes: Counter[str] = field(default_factory=Counter)
    """Counts what changed of a namespace's resources and Secrets: a compiled table is good while it stays."""
    gateway_trouble: dict[str, str] = field(default_factory=dict)
    """Why a namespace's gateway cannot be made, in a sentence."""
    _parsed: dict[str, tuple[Parsed[LLMBackend], Parsed[ModelRoute]]] = field(default_factory=dict)
    _compilers: dict[str, Compiler] = field(default_factory=dict)
    _tables: dict[str, tuple[int, RoutingTable]] = field(default_factory=dict)

    def backends(self, namespace: str) -> list[LLMBackend]:
        """Those that can be read, without their status but for the digests of models."""
        return self._of(namespace)[0].of(self.cache.all(BACKENDS, namespace))

    def routes(self, namespace: str) -> list[ModelRoute]:
        """Those that can be read, without their status."""
        return self._of(namespace)[1].of(self.cache.all(ROUTES, namespace))

    def _of(self, namespace: str) -> tuple[Parsed[LLMBackend], Parsed[ModelRoute]]:
        if (parsed := self._parsed.get(namespace)) is None:
            parsed = Parsed(LLMBackend.parse, _told_elsewhere), Parsed(ModelRoute.parse, _told_elsewhere)
            self._parsed[namespace] = parsed
        return parsed

    async def table(self, namespace: str) -> RoutingTable:
        """The namespace's routing table, without endpoints. Raises `ApiError`."""
        at = self.changes[namespace]
        known = self._tables.get(namespace)
        if known is not None and known[0] == at:
            return known[1]
        backends = self.backends(namespace)
        secrets, config_maps = await self.held(namespace, references(backends))
        compiler = self._compilers.setdefault(namespace, Compiler())
        table = compiler.compile(backends, self.routes(namespace), {}, secrets, config_maps=config_maps)
        self._tables[namespace] = (at, table)
        return table

    async def held(
        self, namespace: str, named: References
    ) -> tuple[Mapping[str, SecretValue], Mapping[str, SecretValue]]:
        """The named Secrets and ConfigMaps that exist, without what is secret. Raises `ApiError`."""
        out: list[dict[str, SecretValue]] = []
        for known, names in ((self.secrets, named.secrets), (self.config_maps, named.config_maps)):
            shapes = {name: await known.shape(namespace, name) for name in sorted(names)}
            out.append({name: SecretValue(s.version, s.keys) for name, s in shapes.items() if s is not None})
        return out[0], out[1]

    async def given(self, backend: LLMBackend) -> Mapping[str, str | None]:
        """Which object and version each Secret is that the backend's pulls are given; None for one that does not exist.
        Raises `ApiError`."""
        names = sorted(pull_secrets(backend))
        return {name: await self.secrets.identity(backend.meta.namespace, name) for name in names}

    def gateway_pods(self, namespace: str) -> list[Obj]:
        return [p for p in self.all_gateway_pods(namespace) if not is_deleting(p)]

    def all_gateway_pods(self, namespace: str) -> list[Obj]:
        """Those too that leave, and finish their streams."""
        return list(self.cache.labelled(PODS, namespace, meta.COMPONENT_LABEL, "gateway"))


def _told_elsewhere(name: str, error: ValidationError) -> None:
    """By its own status."""
