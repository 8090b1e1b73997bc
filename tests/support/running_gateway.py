"""A gateway's data path within the test's own loop, on real sockets, with everything it says recorded."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from pointsman.api.objects import LLMBackend, ModelRoute
from pointsman.domain.compiling import compile_table
from pointsman.domain.health import EndpointMachine
from pointsman.domain.proxies import NO_PROXIES, Proxies
from pointsman.domain.table import PodEndpoint, RoutingTable, SecretValue
from pointsman.gateway.front.server import Server
from pointsman.gateway.insight.events import Event, FellBack
from pointsman.gateway.insight.record import RequestRecord
from pointsman.gateway.limits import Limits
from pointsman.gateway.relay.datapath import DataPath
from pointsman.gateway.state import GatewayState
from pointsman.gateway.upstream.trust import default_tls

TIMEOUTS = {"connect": "10s", "firstToken": "20s", "answer": "20s", "idle": "20s", "total": "60s"}
"""So long that no machine is slow enough to make a backend that is well seem ill."""
SHORT = {"connect": "1s", "firstToken": "1s", "answer": "1s", "idle": "1s", "total": "20s"}
"""For tests of silence: long enough for a good answer of the next backend on a busy machine."""


@dataclass
class Attempt:
    backend: str
    model: str
    verdict: str
    why: str


@dataclass
class Recorder:
    """A meter that keeps everything."""

    requests: list[RequestRecord] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    fallbacks: list[tuple[str, str, str]] = field(default_factory=list)
    generations: list[tuple[str, str]] = field(default_factory=list)
    waits: list[tuple[str, str]] = field(default_factory=list)
    hedges: list[str] = field(default_factory=list)
    started: int = 0
    finished: asyncio.Event = field(default_factory=asyncio.Event)
    """At least one request is over."""

    def request_started(self) -> None:
        self.started += 1

    def request_finished(self, record: RequestRecord) -> None:
        self.requests.append(record)
        self.finished.set()

    def attempt_finished(self, route: str, backend: str, model: str, verdict: str, why: str, ms: float) -> None:
        self.attempts.append(Attempt(backend, model, verdict, why))

    def fell_back(self, route: str, from_backend: str, to_backend: str, reason: str) -> None:
        self.fallbacks.append((from_backend, to_backend, reason))

    def generation_checked(self, backend: str, outcome: str) -> None:
        self.generations.append((backend, outcome))

    def waited(self, route: str, awaited: str, outcome: str) -> None:
        self.waits.append((awaited, outcome))

    def hedged(self, route: str, outcome: str) -> None:
        self.hedges.append(outcome)

    @property
    def verdicts(self) -> list[tuple[str, str, str]]:
        return [(a.backend, a.verdict, a.why) for a in self.attempts]


def external(
    name: str,
    url: str,
    *,
    secret: str | None = None,
    bundle: str | None = None,
    shown: str | None = None,
    models: tuple[str, ...] = ("m",),
    stored: str | None = None,
) -> LLMBackend:
    options: dict[str, Any] = {"url": url}
    if stored:
        options["stored"] = stored
    if bundle:
        options["caBundleRef"] = {"name": bundle}
    if shown:
        options["clientCertificateRef"] = {"name": shown}
    if secret:
        options["secretRef"] = {"name": secret}
    spec = {"engine": "External", "external": options, "models": [{"name": m} for m in models]}
    return LLMBackend.parse({"metadata": {"name": name}, "spec": spec})


def ollama(name: str) -> LLMBackend:
    """A backend that we run; its endpoints are given as pods."""
    spec = {"engine": "Ollama", "models": [{"name": "m", "source": "ollama://m:1"}]}
    return LLMBackend.parse({"metadata": {"name": name}, "spec": spec})


def route(
    *targets: str, models: tuple[str, ...] = ("chat",), timeouts: dict[str, str] | None = None, **fallback: object
) -> ModelRoute:
    """Targets are `backend` or `backend:model`, in order of priority."""
    rows = []
    for n, target in enumerate(targets):
        backend, _, model = target.partition(":")
        rows.append({"backend": backend, "model": model or "m", "priority": n})
    spec = {
        "models": list(models), "targets": rows, "timeouts": TIMEOUTS | (timeouts or {}), "fallback": fallback,
    }  # fmt: skip
    return ModelRoute.parse({"metadata": {"name": "r"}, "spec": spec})


@dataclass
class Running:
    port: int
    state: GatewayState
    server: Server
    meter: Recorder
    events: list[Event]

    @property
    def fallbacks(self) -> list[FellBack]:
        return [e for e in self.events if isinstance(e, FellBack)]

    def machine(self, backend: str, endpoint: int = 0) -> EndpointMachine:
        machine = self.state.health.machine(self.state.table.backends[backend].endpoints[endpoint].key)
        assert machine is not None
        return machine


def table(
    backends: list[LLMBackend],
    routes: list[ModelRoute],
    pods: dict[str, list[int]] | None = None,
    secrets: dict[str, SecretValue] | None = None,
    bundles: dict[str, str] | None = None,
) -> RoutingTable:
    """`pods` holds the ports of backends that we run, `bundles` what ConfigMaps hold under `ca.crt`."""
    endpoints = {
        name: tuple(PodEndpoint(f"uid-{name}-{n}", "127.0.0.1", port) for n, port in enumerate(ports))
        for name, ports in (pods or {}).items()
    }
    config_maps = {name: SecretValue("1", {"ca.crt": pem}) for name, pem in (bundles or {}).items()}
    return compile_table(backends, routes, endpoints, secrets or {}, config_maps=config_maps)


@asynccontextmanager
async def gateway(
    compiled: RoutingTable,
    *,
    limits: Limits | None = None,
    tls: Callable[[], ssl.SSLContext] = default_tls,
    proxies: Proxies = NO_PROXIES,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncIterator[Running]:
    meter = Recorder()
    state = GatewayState("test", table=compiled, meter=meter, jitter=lambda: 0.0, clock=clock)
    events: list[Event] = []
    state.subscribe(events.append)
    path = DataPath(state, limits=limits, tls=tls, proxies=proxies)
    server = Server(path)
    port = await server.listen("127.0.0.1", 0)
    try:
        yield Running(port, state, server, meter, events)
    finally:
        await server.close()
