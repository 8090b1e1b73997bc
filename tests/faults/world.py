"""The world of a run: backends, routes, patience, and the manifests that say so to the gateway. Pure."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from functools import cached_property

FAULTY = ("alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel", "india", "juliett")
SAFE = "safe"
"""Never at fault. Routes that end with it must answer every request."""
NO_NAME = "no-name"
"""Its name cannot be resolved."""
NO_TLS = "no-tls"
"""What listens there does not speak TLS."""
DEAD = (NO_NAME, NO_TLS)

PATIENCE = 2.0
"""Seconds for a first token, a whole answer, and the next token."""
CONNECT = 2.0
TOTAL = 20.0
PROBE = 0.2
ROUTES = 32
HEDGE = 0.3
"""Seconds without content after which routes that hedge ask another target too."""
HOLD = 0.8
"""Seconds for which routes that hold wait for a target that is loading."""
HELD = 3
"""Requests of such a route that may wait at once."""


@dataclass(frozen=True)
class Capacity:
    """Of one backend."""

    in_flight: int
    queued: int
    timeout: float


LIMITED = {"golf": Capacity(1, 3, 0.15), "hotel": Capacity(2, 0, 0.1), "india": Capacity(2, 8, 0.4)}


@dataclass(frozen=True)
class RouteSpec:
    """Targets in order of priority."""

    model: str
    targets: tuple[str, ...]
    attempts: int
    fallback: bool = True
    try_one: bool = True
    hedges: bool = False
    holds: bool = False

    @property
    def sure(self) -> bool:
        """Somebody can always answer, and there are enough attempts to reach him."""
        return self.fallback and self.targets[-1] == SAFE and self.attempts >= len(self.targets)


@dataclass(frozen=True)
class World:
    seed: int

    @cached_property
    def routes(self) -> dict[str, RouteSpec]:
        found = {}
        for n in range(ROUTES):
            draw = random.Random(f"{self.seed}/route/{n}")
            targets = draw.sample(FAULTY, draw.randint(2 + (n % 4 > 1), 6))
            if n % 8 == 5:
                targets.insert(draw.randrange(len(targets)), NO_NAME)
            if n % 8 == 6:
                targets.insert(draw.randrange(len(targets)), NO_TLS)
            if n % 4 != 3:
                route = RouteSpec(f"m{n}", (*targets, SAFE), 8, hedges=n % 4 == 1, holds=n % 4 == 2)
            else:
                route = RouteSpec(f"m{n}", tuple(targets), draw.randint(1, 6), n % 16 != 3, draw.random() < 0.7)
                route = replace(route, hedges=n % 16 == 7, holds=n % 16 == 11)
            found[route.model] = route
        return found

    def manifests(self, ports: dict[str, int], version: int = 0) -> str:
        """The resources; with `version` what changes when the configuration is reloaded."""
        urls = {name: f"http://127.0.0.1:{port}/v1" for name, port in ports.items()}
        urls[NO_NAME] = "http://no-such-name.invalid/v1"
        urls[NO_TLS] = urls[NO_TLS].replace("http:", "https:")
        if version % 3 == 1:
            # Another address of the same server: a new endpoint, connections of its own.
            urls[MOVING] = urls[MOVING].replace("/v1", "/again/v1")
        if version % 4 == 2:
            del urls[LEAVING]
        documents = [_backend(name, url, tuple(self.routes)) for name, url in urls.items()]
        documents += [_route(r, version) for r in self.routes.values()]
        if version % 2:
            documents.append(_route(RouteSpec(f"extra-{version}", (SAFE,), 1), version, as_model="m0"))
        return "---\n".join(documents)


MOVING = "delta"
LEAVING = "echo"
CHANGING = frozenset((MOVING, LEAVING))
"""Backends that a reload changes: what is remembered of their health may be lost at any time."""


def _backend(name: str, url: str, models: tuple[str, ...]) -> str:
    listed = "".join(f"  - {{name: {m}}}\n" for m in models)
    return (
        f"apiVersion: pointsman.dev/v1alpha1\nkind: LLMBackend\nmetadata: {{name: {name}}}\nspec:\n"
        f"  engine: External\n  external: {{url: '{url}'}}\n  models:\n{listed}"
        f"  probe: {{interval: {PROBE * 1000:.0f}ms, timeout: 2s, successThreshold: 1}}\n"
        f"{_limits(LIMITED[name]) if name in LIMITED else ''}"
    )


def _limits(capacity: Capacity) -> str:
    timeout = f"{capacity.timeout * 1000:.0f}ms"
    return f"  limits: {{maxInFlight: {capacity.in_flight}, maxQueued: {capacity.queued}, queueTimeout: {timeout}}}\n"


def _route(route: RouteSpec, version: int, as_model: str = "") -> str:
    rows = "".join(
        f"  - {{backend: {b}, model: {as_model or route.model}, priority: {p}}}\n" for p, b in enumerate(route.targets)
    )
    patience = f"{PATIENCE * 1000:.0f}ms"
    more = f", firstTokenAfter: {HEDGE * 1000:.0f}ms" if route.hedges else ""
    if route.holds:
        more += f", whileCold: Hold, holdTimeout: {HOLD * 1000:.0f}ms, maxHeld: {HELD}"
    total = f"{TOTAL * 1000 + version % 5:.0f}ms"
    return (
        f"apiVersion: pointsman.dev/v1alpha1\nkind: ModelRoute\nmetadata: {{name: {route.model}}}\nspec:\n"
        f"  models: [{route.model}]\n  targets:\n{rows}"
        f"  fallback: {{mode: {'Auto' if route.fallback else 'None'}, maxAttempts: {route.attempts},"
        f" whenAllUnhealthy: {'TryOne' if route.try_one else 'Fail'}{more}}}\n"
        f"  timeouts: {{connect: {CONNECT:.0f}s, firstToken: {patience}, answer: {patience}, idle: {patience},"
        f" total: {total}}}\n"
    )
