"""Requests as decisions see them, and small worlds of backends to decide about. Nothing here does I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pointsman.api.objects import LLMBackend, ModelRoute
from pointsman.api.route import Needed, TaskType
from pointsman.domain.book import HealthBook
from pointsman.domain.candidates import Ordering, order
from pointsman.domain.compiling import compile_table
from pointsman.domain.health import EndpointMachine
from pointsman.domain.table import PodEndpoint, Route, RoutingTable

NOW = 1000.0


@dataclass(frozen=True)
class Asked:
    """Implements `domain.features.Features` with what it is given."""

    seed: int = 0
    stream: bool = False
    task: TaskType | None = None
    needs: frozenset[Needed] = frozenset()
    prompt_tokens: int = 10
    prefix: int = 0
    headers: Mapping[bytes, str] = field(default_factory=dict)
    user: str | None = None

    def header(self, name: bytes) -> str | None:
        return self.headers.get(name)

    def key(self, header: bytes | None) -> str | None:
        return (self.headers.get(header) if header else None) or self.user


def backend(name: str, pods: int | None = None, *, model: Mapping[str, Any] | None = None, **spec: Any) -> LLMBackend:
    """One that we run, with `pods` (see `small_world`); or an External one, when that is None."""
    if pods is None:
        spec = {"engine": "External", "external": {"url": f"http://{name}.test/v1"}, **spec}
        spec["models"] = [{"name": "m", **(model or {})}]
    else:
        spec = {"engine": "Ollama", "models": [{"name": "m", "source": "ollama://m:1", **(model or {})}], **spec}
    return LLMBackend.parse({"metadata": {"name": name}, "spec": spec})


def route(targets: Sequence[str | Mapping[str, Any]], name: str = "r", *, created: str = "", **spec: Any) -> ModelRoute:
    """Targets are names of backends (all of one priority), or as in a manifest; `model` is m where it is not given."""
    listed = [{"model": "m", **({"backend": t} if isinstance(t, str) else t)} for t in targets]
    rules = [
        {**rule, "targets": [{"model": "m", **({"backend": t} if isinstance(t, str) else t)} for t in rule["targets"]]}
        for rule in spec.pop("rules", ())
    ]
    body = {"models": ["chat"], "targets": listed, **({"rules": rules} if rules else {}), **spec}
    return ModelRoute.parse({"metadata": {"name": name, "creationTimestamp": created}, "spec": body})


class SmallWorld:
    """Backends, routes and the health of all endpoints, at one moment."""

    def __init__(
        self, backends: Sequence[LLMBackend], *routes: ModelRoute, pods: Mapping[str, int] | None = None
    ) -> None:
        endpoints = {
            name: tuple(PodEndpoint(f"{name}-{n}", "10.0.0.1", 8000 + n) for n in range(count))
            for name, count in (pods or {}).items()
        }
        self.table: RoutingTable = compile_table(backends, routes, endpoints, {})
        self.book = HealthBook()
        self.book.adopt(self.table, NOW)

    @property
    def route(self) -> Route:
        return self.table.routes["r"]

    def machine(self, name: str, endpoint: int = 0) -> EndpointMachine:
        machine = self.book.machine(self.table.backends[name].endpoints[endpoint].key)
        assert machine is not None
        return machine

    def busy(self, name: str, requests: int, endpoint: int = 0) -> None:
        for _ in range(requests):
            self.machine(name, endpoint).begin()

    def answered(self, name: str, ms: float, *, endpoint: int = 0, stream: bool = False, at: float = NOW) -> None:
        model = self.table.backends[name].models["m"]
        self.machine(name, endpoint).succeeded(model, ms, at, stream=stream)

    def order(self, request: Asked = Asked(), now: float = NOW, **how: Any) -> Ordering:
        return order(self.route, self.book, now, request, **how)

    def names(self, request: Asked = Asked(), now: float = NOW) -> list[str]:
        return [c.target.backend.name for c in self.order(request, now).candidates]
