"""A bench for reconcilers: the real ones on a real API server, one namespace, without watches and without a queue.

`settle()` lists everything and reconciles every key until nothing is written any more; so a test says what happened in
the cluster, settles, and looks. Time may be moved ahead. The calls can be counted and cut off at any of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from pointsman.controllers.backend import BackendController
from pointsman.controllers.book import ReportBook
from pointsman.controllers.context import Context
from pointsman.controllers.gateway import GatewayController
from pointsman.controllers.keys import everything_in
from pointsman.controllers.route import RouteController
from pointsman.controllers.settings import Settings
from pointsman.kube.cache import Cache
from pointsman.kube.client import WRITES, ApplyClient, Client
from pointsman.kube.connect import Conflict, Connection, Forbidden, NotFound, Unreachable
from pointsman.kube.kinds import sentence
from pointsman.kube.queue import Again, RetryLater
from pointsman.kube.resources import (
    BACKENDS,
    CONFIG_MAPS,
    OPTIONAL,
    OURS,
    OWNED_SELECTOR,
    ROUTES,
    WATCHED,
    Obj,
    Resource,
)
from pointsman.kube.secrets import SecretWatch

SETTINGS = Settings.model_validate(
    {"image": "example.test/pointsman:1", "engines": {"ollama": {"image": "example.test/ollama:1"}}}
)


class Killed(BaseException):
    """The process ends here. No `except Exception` may survive it."""


class CuttingClient:
    """Counts calls; ends the process before or after the one with a number, or fails it."""

    def __init__(self, inner: ApplyClient, *, before: int = -1, after: int = -1, fail: int = -1) -> None:
        self._inner = inner
        self._before, self._after, self._fail = before, after, fail
        self.count = 0
        self.writes: list[str] = []
        """Those that were accepted."""

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        method = getattr(self._inner, verb)

        async def call(*args: Any, **kwargs: Any) -> Any:
            number = self.count
            self.count += 1
            if number == self._before:
                raise Killed
            if number == self._fail:
                raise Unreachable("the API server is away")
            answer = await method(*args, **kwargs)
            if verb in WRITES:
                self.writes.append(f"{verb} {_what(args)}")
            if number == self._after:
                raise Killed
            return answer

        return call


class Bench:
    """The operator of one namespace."""

    def __init__(
        self,
        connection: Connection,
        namespace: str,
        settings: Settings = SETTINGS,
        **cut: int,
    ) -> None:
        self.connection = connection
        self.again: Sequence[Resource] = WATCHED
        """The kinds that are listed after the first time."""
        self._kinds: Sequence[Resource] = WATCHED
        self.namespace = namespace
        self.client = CuttingClient(Client(connection), **cut)
        self.ahead = 0.0
        """Seconds that the operator's clock is ahead."""
        self.secrets = SecretWatch(connection, lambda *_: self._touch())
        self.config_maps = SecretWatch(connection, lambda *_: self._touch(), CONFIG_MAPS)
        self.context = Context(
            self.client, Cache(), settings, self.secrets, self.config_maps, self, ReportBook(self.now), clock=self.now
        )
        self.backends = BackendController(self.context)
        self.routes = RouteController(self.context)
        self.gateways = GatewayController(self.context, lambda _: None, clock=self.now)

    def now(self) -> float:
        return time.time() + self.ahead

    def _touch(self) -> None:
        self.context.changes[self.namespace] += 1

    async def missing(self, resource: Resource) -> str:
        """As `Kinds.missing`, asked each time."""
        try:
            await Client(self.connection).list(resource, self.namespace, labels=OWNED_SELECTOR)
        except (NotFound, Forbidden) as error:
            return sentence(resource, error)
        return ""

    def gone(self, resource: Resource) -> None:
        """As `Kinds.gone`: it is asked each time."""

    async def look(self) -> None:
        """What watches would have told: everything at first, then what may have changed."""
        kinds, self._kinds = self._kinds, self.again
        groups = [kind for kind in OPTIONAL if not await self.missing(kind)]
        for resource in (*kinds, *groups):
            selector = "" if resource in OURS else OWNED_SELECTOR
            items, version = await Client(self.connection).list(resource, self.namespace, labels=selector)
            self.context.cache.replace(resource, items, version, self.namespace)
        self._touch()

    async def visit(self) -> dict[str, Again]:
        """Each key once; gives what each wants of the queue. `ApiError` ends nothing, as in the queue."""
        out: dict[str, Again] = {}
        for key in sorted(everything_in(self.namespace, self.context.cache), key=str):
            match key.kind:
                case "LLMBackend":
                    visit = self.backends.reconcile(key.namespace, key.name)
                case "ModelRoute":
                    visit = self.routes.reconcile(key.namespace, key.name)
                case _:
                    visit = self.gateways.reconcile(key.namespace)
            try:
                out[str(key)] = await visit
            except (Unreachable, Conflict, RetryLater):
                out[str(key)] = Again(0.0)
        return out

    async def settle(self, rounds: int = 8) -> dict[str, Again]:
        """Looks and visits until a round writes nothing and nothing is to be tried again."""
        for _ in range(rounds):
            before = len(self.client.writes)
            await self.look()
            out = await self.visit()
            if len(self.client.writes) == before and Again(0.0) not in out.values():
                return out
        raise AssertionError(f"no rest after {rounds} rounds: {self.client.writes[-20:]}")

    async def close(self) -> None:
        await self.secrets.close()
        await self.config_maps.close()

    async def backend(self, name: str) -> Obj:
        found = await Client(self.connection).get(BACKENDS, self.namespace, name)
        assert found is not None
        return found

    async def route(self, name: str) -> Obj:
        found = await Client(self.connection).get(ROUTES, self.namespace, name)
        assert found is not None
        return found


def condition(obj: Obj, kind: str) -> dict[str, Any]:
    """A condition of an object; fails when there is none."""
    (found,) = [c for c in obj["status"]["conditions"] if c["type"] == kind]
    return dict(found)


def says(obj: Obj, kind: str) -> tuple[str, str]:
    """Status and reason of a condition."""
    found = condition(obj, kind)
    return found["status"], found["reason"]


def ollama(name: str, namespace: str, **spec: Any) -> Obj:
    """An LLMBackend of engine Ollama with one model, `m`."""
    models = [{"name": "m", "source": "ollama://tiny:1"}]
    return _ours("LLMBackend", name, namespace, {"engine": "Ollama", "models": models, **spec})


def external(name: str, namespace: str, secret: str | None = None, **spec: Any) -> Obj:
    """An LLMBackend of engine External with one model, `m`."""
    block: dict[str, Any] = {"url": "https://api.example.test/v1"}
    if secret:
        block["secretRef"] = {"name": secret}
    return _ours(
        "LLMBackend", name, namespace, {"engine": "External", "external": block, "models": [{"name": "m"}], **spec}
    )


def route(name: str, namespace: str, models: list[str], *targets: str) -> Obj:
    """A ModelRoute to the model `m` of each backend in `targets`, or to `backend/model`."""
    pairs = [t.split("/") if "/" in t else (t, "m") for t in targets]
    listed = [{"backend": b, "model": m, "priority": i} for i, (b, m) in enumerate(pairs)]
    return _ours("ModelRoute", name, namespace, {"models": models, "targets": listed})


def _ours(kind: str, name: str, namespace: str, spec: dict[str, Any]) -> Obj:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "pointsman.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}


def _what(args: tuple[Any, ...]) -> str:
    first = args[0]
    if isinstance(first, dict):
        return f"{first['kind']} {first['metadata'].get('name') or first.get('reason')}"
    return f"{first.kind} {args[2]}"
