"""In a cluster: the table comes from the resources of one namespace, as the API server shows them.

Decided here: what is watched, when it is compiled, what happens while the API server is away. Not here: what the
objects mean (`resources.py`, `domain/compiling.py`).

- Changes are gathered for `GATHER_SECONDS`; a table that equals the one in service is not put in its place, so that
  neither a status that is written nor a list that is repeated disturbs traffic.
- API server away: the last table stays. Away at the start: the one saved in `state_dir`, with those pods that answer a
  check (their addresses may belong to others by now); Secrets and CA bundles are not saved, so targets that need one
  wait.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from pydantic import ValidationError

from pointsman.api import meta
from pointsman.api.engine import Engine
from pointsman.api.objects import LLMBackend, ModelRoute, sentence
from pointsman.domain.compiling import Compiler, compile_table
from pointsman.domain.parsed import Parsed, trimmed
from pointsman.domain.probed import ProbeOutcome
from pointsman.domain.references import references
from pointsman.domain.sharing import Crew, crew
from pointsman.domain.table import PodEndpoint, RoutingTable, SecretValue
from pointsman.gateway.probes.cheap import probe
from pointsman.gateway.probes.client import ProbeClient
from pointsman.gateway.sources import saved
from pointsman.gateway.sources.files import explain_table
from pointsman.gateway.sources.referenced import Referenced
from pointsman.gateway.sources.resources import SERVICE_LABEL, endpoints_of, gateways_of, unmanaged
from pointsman.gateway.sources.source import SourceStatus
from pointsman.gateway.state import GatewayState
from pointsman.kube.connect import Connection
from pointsman.kube.reflector import Items, Reflector, Selection, for_many_watches

_log = logging.getLogger(__name__)

GATHER_SECONDS = 0.02
FIRST_SYNC_SECONDS = 5.0
"""After so long without a first list, a saved table is used."""
SAVE_SECONDS = 1.0
"""Tables are saved this often at most."""
RETRY_SAVED_SECONDS = 5.0

_ANSWERS = (ProbeOutcome.OK, ProbeOutcome.BUSY, ProbeOutcome.LOADING)


class ClusterSource:
    """Keeps `state.table` equal to what the namespace says. `run` it as a task."""

    def __init__(
        self,
        connection: Connection,
        namespace: str,
        state: GatewayState,
        status: SourceStatus,
        *,
        state_dir: Path | None = None,
        first_sync: float = FIRST_SYNC_SECONDS,
    ) -> None:
        self._connection = for_many_watches(connection)
        self._namespace = namespace
        self._state = state
        self._status = status
        self._state_dir = state_dir
        self._first_sync = first_sync
        self._dirty = asyncio.Event()
        self._unsaved = asyncio.Event()
        self._backends = Parsed(LLMBackend.parse, partial(tell_skipped, meta.BACKEND_KIND))
        self._routes = Parsed(ModelRoute.parse, partial(tell_skipped, meta.ROUTE_KIND))
        self._referenced = Referenced(self._connection, namespace, self._changed)
        self._compiler = Compiler()
        self._table: RoutingTable | None = None
        ours = [
            Selection(meta.GROUP, meta.VERSION, meta.BACKEND_PLURAL, namespace),
            Selection(meta.GROUP, meta.VERSION, meta.ROUTE_PLURAL, namespace),
            Selection("discovery.k8s.io", "v1", "endpointslices", namespace, labels=meta.BACKEND_LABEL),
            # Who shares the limits with this gateway.
            Selection(
                "discovery.k8s.io", "v1", "endpointslices", namespace, labels=f"{SERVICE_LABEL}={meta.GATEWAY_NAME}"
            ),
        ]
        self._watched = [
            Reflector(self._connection, selection, self._changed, keep=keep)
            for selection, keep in zip(ours, (trimmed, trimmed, unmanaged, unmanaged), strict=True)
        ]

    async def run(self) -> None:
        """Runs until cancelled."""
        tasks = [asyncio.create_task(reflector.run()) for reflector in self._watched]
        if self._state_dir is not None:
            for extra in (self._keep_saving(self._state_dir), self._start_from_saved(self._state_dir)):
                tasks.append(asyncio.create_task(extra))
                tasks[-1].add_done_callback(_tell_failure)
        try:
            for reflector in self._watched:
                await reflector.synced.wait()
            while True:
                await self._compile()
                await self._dirty.wait()
                await asyncio.sleep(GATHER_SECONDS)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._referenced.close()
            await self._connection.close()

    def _live(self) -> bool:
        """Has a table come from the API server?"""
        return self._table is not None

    def _changed(self, _: Items) -> None:
        self._dirty.set()

    async def _compile(self) -> None:
        self._dirty.clear()
        backends_seen, routes_seen, slices, ours = (reflector.items for reflector in self._watched)
        backends = self._backends.of(backends_seen.values())
        routes = self._routes.of(routes_seen.values())
        await self._referenced.follow(references(backends))
        gateways = crew(gateways_of(ours.values()), self._state.name)
        held = self._referenced.secrets(), self._referenced.config_maps()
        inputs = (backends, routes, endpoints_of(slices.values()), *held, gateways)
        # In a thread: 1,000 backends and routes take 50 ms at first, which requests should not have to wait.
        table = await asyncio.to_thread(_compiled, self._compiler, self._table, *inputs)
        if table is None:
            return
        changed = self._table is None or table.routes != self._table.routes or table.clashes != self._table.clashes
        self._table = table
        self._state.set_table(table)
        self._status.succeeded()
        self._unsaved.set()
        if changed:
            explain_table(table)

    # ---- while the API server is away

    async def _keep_saving(self, folder: Path) -> None:
        while True:
            await self._unsaved.wait()
            self._unsaved.clear()
            backends, routes, slices, ours = (reflector.items for reflector in self._watched)
            content = saved.Saved(
                namespace=self._namespace,
                backends=dict(backends),
                routes=dict(routes),
                endpoints=endpoints_of(slices.values()),
                gateways=tuple(sorted(gateways_of(ours.values()))),
            )
            try:
                await asyncio.to_thread(saved.write, folder, content)
            except OSError as error:
                _log.warning("the table cannot be saved in %s: %s", folder, error.strerror)
            await asyncio.sleep(SAVE_SECONDS)

    async def _start_from_saved(self, folder: Path) -> None:
        """Serves by the saved table while there is none from the API server."""
        await asyncio.sleep(self._first_sync)
        content = await asyncio.to_thread(saved.read, folder, self._namespace)
        if content is None or self._live():
            return
        _log.warning("no answer from the API server: starting from the resources saved in %s", folder)
        backends, routes = self._backends.of(content.backends.values()), self._routes.of(content.routes.values())
        gateways = crew(content.gateways, self._state.name)
        waiting = {name: list(pods) for name, pods in content.endpoints.items()}
        ready: dict[str, list[PodEndpoint]] = {}
        while not self._live():
            table = compile_table(backends, routes, {n: tuple(pods) for n, pods in waiting.items()}, {}, gateways)
            answering = await self._answering(table)
            for name, pods in waiting.items():
                ready.setdefault(name, []).extend(p for p in pods if p.uid in answering)
                waiting[name] = [p for p in pods if p.uid not in answering]
            if self._live():
                return
            if answering or not self._status.loaded:
                pods_ready = {name: tuple(pods) for name, pods in ready.items()}
                self._state.set_table(compile_table(backends, routes, pods_ready, {}, gateways))
                self._status.succeeded()
            await asyncio.sleep(RETRY_SAVED_SECONDS)

    async def _answering(self, table: RoutingTable) -> set[str]:
        """Keys of the pods that answer a check."""
        ours = [(b, e) for b in table.backends.values() if b.engine is not Engine.EXTERNAL for e in b.endpoints]
        async with ProbeClient(self._state.clock) as client:
            found = await asyncio.gather(*(probe(client, b, e) for b, e in ours))
        return {e.key for (_, e), probed in zip(ours, found, strict=True) if probed.outcome in _ANSWERS}


def _compiled(
    compiler: Compiler,
    before: RoutingTable | None,
    backends: list[LLMBackend],
    routes: list[ModelRoute],
    endpoints: Mapping[str, tuple[PodEndpoint, ...]],
    secrets: Mapping[str, SecretValue],
    config_maps: Mapping[str, SecretValue],
    gateways: Crew,
) -> RoutingTable | None:
    """The table; None when it says the same as `before`."""
    table = compiler.compile(backends, routes, endpoints, secrets, gateways, config_maps)
    return None if table == before else table


def tell_skipped(kind: str, name: str, error: ValidationError) -> None:
    _log.error("%s %s is skipped, it cannot be read: %s", kind, name, sentence(error))


def _tell_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("saving or reading the saved table ended", exc_info=error)
