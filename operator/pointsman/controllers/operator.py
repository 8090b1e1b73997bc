"""The operator as a whole: watcher, queue, reconcilers, reports, under one lease.

Decided here: the order of starting and ending, and what a failure of a part means. A lost lease ends the process at
once: another operator may write by now.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import socket
import time
from collections.abc import Sequence
from contextvars import ContextVar
from functools import partial

from pointsman.api.references import BundleKind
from pointsman.controllers.backend import BackendController
from pointsman.controllers.context import Context
from pointsman.controllers.gateway import GatewayController
from pointsman.controllers.keys import Key, delay, keys_of
from pointsman.controllers.metrics import Metrics
from pointsman.controllers.reports import Reports
from pointsman.controllers.route import RouteController
from pointsman.controllers.settings import Settings
from pointsman.domain.references import names
from pointsman.kube.cache import Cache
from pointsman.kube.client import Client
from pointsman.kube.connect import ApiError, Connection, NotFound
from pointsman.kube.kinds import OptionalKinds
from pointsman.kube.lease import Lease, LeaseLost
from pointsman.kube.queue import RESYNC_SECONDS, Again, RetryLater, WorkQueue
from pointsman.kube.resources import BACKENDS, CONFIG_MAPS, OPTIONAL, PODS, ROUTES, Obj, Resource
from pointsman.kube.secrets import SecretWatch
from pointsman.kube.watch import Watcher

log = logging.getLogger(__name__)

LIST_RETRY_SECONDS = 3.0
visiting: ContextVar[tuple[str, int] | None] = ContextVar("visiting", default=None)
"""Which object this task reconciles, and the visit's number."""
LOST_EXIT = 3
"""Exit code of an operator that lost its lease."""


def name_visit(record: logging.LogRecord) -> bool:
    """A filter for log handlers: every line of a visit carries its object and number."""
    if (visit := visiting.get()) is not None:
        record.object, record.reconcile = visit
    return True


class Operator:
    """One operator process."""

    def __init__(
        self, connection: Connection, settings: Settings, namespaces: Sequence[str] = (), pod_uid: str = ""
    ) -> None:
        """`namespaces` go before those of the settings; none of either: the whole cluster. `pod_uid`: of the pod that
        this runs in; empty: in none."""
        self.metrics = Metrics()
        self.ready = False
        """Standing by, or leading with all caches filled."""
        self._connection = connection
        self._settings = settings
        # In a pod there is never more than one: who is started again in it goes on with the lease, and need not wait
        # until it has run out.
        self._identity = f"{socket.gethostname()}_{pod_uid or f'{os.getpid()}-{os.urandom(3).hex()}'}"
        self._client = Client(connection, on_call=lambda verb: self.metrics.calls.labels(verb).inc())
        self._queue: WorkQueue[Key] = WorkQueue()
        self._secrets = SecretWatch(connection, partial(self._named_changed, BundleKind.SECRET))
        self._config_maps = SecretWatch(connection, partial(self._named_changed, BundleKind.CONFIG_MAP), CONFIG_MAPS)
        cache = Cache()
        watched = tuple(namespaces) or settings.namespaces
        self._kinds = OptionalKinds(connection, self._client, cache, watched, self._changed)
        self._context = Context(
            self._client, cache, settings, self._secrets, self._config_maps, self._kinds, instance=self._identity
        )
        self._watcher = Watcher(connection, self._client, cache, watched, self._changed)
        self._backends = BackendController(self._context)
        self._reports = Reports(self._context, lambda key, after: self._queue.add(key, after), self._backends.scaling)
        self._routes = RouteController(self._context)
        self._gateways = GatewayController(self._context, self._namespace_changed)
        self._lease = Lease(
            self._client, settings.lease.namespace or connection.namespace, settings.lease.name, self._identity
        )
        self._ids = itertools.count(1)
        self.metrics.depth.set_function(self._queue.depth)
        self.metrics.reports.set_function(lambda: self._reports.connected)

    async def run(self, stop: asyncio.Event) -> int:
        """Runs until `stop`; gives the exit code."""
        self.ready = True
        leading = asyncio.create_task(self._lease.acquire())
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait({leading, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not leading.done():
            leading.cancel()
            return 0
        leading.result()
        self.ready = False
        self.metrics.leader.set(1)
        holding = asyncio.create_task(self._lease.hold())
        work = asyncio.create_task(self._work())
        done, _ = await asyncio.wait({holding, work, stopped}, return_when=asyncio.FIRST_COMPLETED)
        self.ready = False
        self.metrics.leader.set(0)
        if holding in done and isinstance(error := holding.exception(), LeaseLost):
            log.error("the lease is lost, ending: %s", error)
            return LOST_EXIT
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work
        holding.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await holding
        await self._lease.release()
        await self._reports.close()
        await self._secrets.close()
        await self._config_maps.close()
        await self._kinds.close()
        return 0

    async def _work(self) -> None:
        await self._first_lists()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watcher.run())
            group.create_task(self._queue.run(self._settings.workers, self.reconcile, self._failed))
            self.ready = True

    async def _first_lists(self) -> None:
        while True:
            try:
                await self._watcher.list_all()
                for kind in OPTIONAL:
                    await self._kinds.missing(kind)
            except* NotFound:
                log.warning("the CustomResourceDefinitions of Pointsman are missing: install them")
            except* ApiError as errors:
                log.warning("the first lists failed, trying again: %s", errors.exceptions[0])
            else:
                return
            await asyncio.sleep(LIST_RETRY_SECONDS)

    async def reconcile(self, key: Key) -> Again:
        """One visit; the log lines of it carry the key and the visit's number."""
        start = time.perf_counter()
        result = "error"
        visiting.set((str(key), next(self._ids)))
        try:
            match key.kind:
                case "LLMBackend":
                    again = await self._backends.reconcile(key.namespace, key.name)
                case "ModelRoute":
                    again = await self._routes.reconcile(key.namespace, key.name)
                case "Gateway":
                    again = await self._gateways.reconcile(key.namespace)
                case "Names":
                    for route in await self._routes.misnamed(key.namespace):
                        self._queue.add(Key("ModelRoute", key.namespace, route))
                    again = Again(None)
            result = "ok" if again.seconds is None or again.seconds >= RESYNC_SECONDS else "waiting"
            return again
        finally:
            took = time.perf_counter() - start
            self.metrics.reconciles.labels(key.kind, result).inc()
            self.metrics.seconds.labels(key.kind).observe(took)
            log.debug("reconciled", extra={"result": result, "seconds": round(took, 4)})

    def _failed(self, key: Key, error: Exception, wait: float) -> None:
        extra = {"retry_seconds": round(wait, 1)}
        if isinstance(error, ApiError | RetryLater):
            log.info("trying again later: %s", error, extra=extra)
        else:
            log.error("a reconcile failed, this is a bug", exc_info=error, extra=extra)

    def _changed(self, resource: Resource, obj: Obj) -> None:
        if resource in (BACKENDS, ROUTES):
            self._context.changes[obj["metadata"]["namespace"]] += 1
        for key in keys_of(resource, obj, self._context.cache):
            self._queue.add(key, delay(key, obj))
        if resource is PODS:
            self._reports.pod_changed(obj)

    def _named_changed(self, kind: BundleKind, namespace: str, name: str) -> None:
        """A Secret or ConfigMap that backends name."""
        self._context.changes[namespace] += 1
        for backend in self._context.backends(namespace):
            if names(backend, kind, name):
                self._queue.add(Key("LLMBackend", namespace, backend.meta.name))
                for route in self._context.routes(namespace):
                    if any(name == backend.meta.name for name, _ in route.spec.names_of_targets):
                        self._queue.add(Key("ModelRoute", namespace, route.meta.name))

    def _namespace_changed(self, namespace: str) -> None:
        for route in self._context.routes(namespace):
            self._queue.add(Key("ModelRoute", namespace, route.meta.name))
