"""Watching the cluster: kopf as the watcher, nothing more.

Decided here: what is watched (our two kinds, and everything that carries our label), how kopf is set up for it, and
when a whole list is due: kopf is no informer, deletions during a gap are never reported, so a relist of its own (events
without a type) and a timer make us list the kind and replace what we know. Not here: what a change means
(`controllers/keys.py`).

kopf runs in a thread with a loop of its own: it takes every task of its loop for its own when it ends, and it may end
(an API server that answers 500 for a minute) and be started again without anything else being touched.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
from collections.abc import Callable, Sequence
from typing import Any, cast

import kopf

from pointsman.api import meta
from pointsman.kube.cache import Cache
from pointsman.kube.client import ApplyClient
from pointsman.kube.connect import ApiError, Connection
from pointsman.kube.queue import JITTER, RESYNC_SECONDS
from pointsman.kube.resources import OURS, OWNED_SELECTOR, WATCHED, Obj, Resource

log = logging.getLogger(__name__)

RELIST_AFTER_SECONDS = 1.0
"""kopf's relist gives one event an object: wait for the last of them, then list once."""
RESTART_SECONDS = 2.0
SPARE_CONNECTIONS = 6


def is_noise(record: logging.LogRecord) -> bool:
    """kopf logs each retry of a request as an error; what matters of it is said by us."""
    return record.name.startswith("kopf") and str(record.msg).startswith("Request attempt #")


OnChange = Callable[[Resource, Obj], None]


class Watcher:
    """Keeps a `Cache` up to date and says what changed."""

    def __init__(
        self,
        connection: Connection,
        client: ApplyClient,
        cache: Cache,
        namespaces: Sequence[str],
        on_change: OnChange,
        resources: Sequence[Resource] = WATCHED,
    ) -> None:
        """`namespaces`: empty for the whole cluster. `on_change` is called in the caller's loop, after the cache."""
        self._connection = connection
        self._client = client
        self._cache = cache
        self._namespaces = tuple(namespaces)
        self._on_change = on_change
        self._resources = tuple(resources)
        self._relist: dict[Resource, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def list_all(self) -> None:
        """Lists every kind. Raises `ApiError`; `NotFound` for our kinds means that the CRDs are missing."""
        async with asyncio.TaskGroup() as group:
            for resource in self._resources:
                group.create_task(self.list_one(resource))

    async def list_one(self, resource: Resource) -> None:
        selector = "" if resource in OURS else OWNED_SELECTOR
        for namespace in self._namespaces or (None,):
            items, version = await self._client.list(resource, namespace, labels=selector)
            for obj in self._cache.replace(resource, items, version, namespace):
                self._on_change(resource, obj)

    async def run(self) -> None:
        """Watches until cancelled."""
        stop = threading.Event()
        thread = threading.Thread(
            target=self._watch_for_ever, args=(asyncio.get_running_loop(), stop), name="kopf", daemon=True
        )
        thread.start()
        try:
            # What vanished between our first list and kopf's own.
            await asyncio.sleep(2 * RELIST_AFTER_SECONDS)
            while True:
                for resource in self._resources:
                    self._list_later(resource, 0.0)
                await asyncio.sleep(RESYNC_SECONDS * (1.0 + JITTER * random.random()))
        finally:
            stop.set()
            for handle in self._relist.values():
                handle.cancel()
            for task in self._tasks:
                task.cancel()
            await asyncio.to_thread(thread.join, 5.0)

    def _seen(self, resource: Resource, kind: str | None, obj: Obj) -> None:
        if kind is None:
            self._list_later(resource, RELIST_AFTER_SECONDS)
        obj = {"apiVersion": resource.api_version, "kind": resource.kind, **obj}
        changed = self._cache.remove(resource, obj) if kind == "DELETED" else self._cache.put(resource, obj)
        if changed:
            self._on_change(resource, obj)

    def _list_later(self, resource: Resource, seconds: float) -> None:
        if (waiting := self._relist.pop(resource, None)) is not None:
            waiting.cancel()
        self._relist[resource] = asyncio.get_running_loop().call_later(seconds, self._start_list, resource)

    def _start_list(self, resource: Resource) -> None:
        task = asyncio.get_running_loop().create_task(self._try_list(resource))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _try_list(self, resource: Resource) -> None:
        try:
            await self.list_one(resource)
        except ApiError as error:
            log.warning("listing %s failed, trying again: %s", resource.plural, error.message)
            self._list_later(resource, 10.0)

    # ---- in kopf's thread

    def _watch_for_ever(self, loop: asyncio.AbstractEventLoop, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                asyncio.run(self._watch(loop, stop))
            except (Exception, asyncio.CancelledError) as error:
                log.warning("watching broke off, starting again: %s", error)
            stop.wait(RESTART_SECONDS)

    async def _watch(self, loop: asyncio.AbstractEventLoop, stop: threading.Event) -> None:
        registry = kopf.OperatorRegistry()
        settings = kopf.OperatorSettings()
        _configure(settings, self._resources)
        streams = len(self._resources) * max(1, len(self._namespaces))

        @kopf.on.login(registry=registry)
        async def login(**_: Any) -> kopf.AiohttpSession:
            session = self._connection.open_session(streams + SPARE_CONNECTIONS)
            return kopf.AiohttpSession(server=self._connection.server, aiohttp_session=session)

        for resource in self._resources:
            self._listen(registry, resource, loop)
        await kopf.operator(
            registry=registry,
            settings=settings,
            # Peering is off; without a name kopf would look up the user's, and a container's uid has none.
            identity=cast(Any, "pointsman"),
            standalone=True,
            clusterwide=not self._namespaces,
            namespaces=self._namespaces,
            stop_flag=stop,
        )

    def _listen(self, registry: kopf.OperatorRegistry, resource: Resource, loop: asyncio.AbstractEventLoop) -> None:
        @kopf.on.event(
            group=resource.group,
            version=resource.version,
            plural=resource.plural,
            id=resource.plural,
            registry=registry,
        )
        async def seen(event: Any, **_: Any) -> None:
            loop.call_soon_threadsafe(self._seen, resource, event["type"], dict(event["object"]))


class _NoDiffs(kopf.DiffBaseStorage):
    """kopf would copy each object it hears of, to compare it with the last: nobody here asks what the difference is."""

    def build(self, *, body: kopf.Body, extra_fields: Any = None) -> kopf.BodyEssence:
        return cast(kopf.BodyEssence, {})

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        return


def _configure(settings: kopf.OperatorSettings, resources: Sequence[Resource]) -> None:
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.watching.initial_streaming = False  # 1.45.2 loses objects when such a stream breaks
    settings.watching.connect_timeout = 5.0
    settings.networking.request_timeout = 60.0
    settings.networking.error_backoffs = (1, 2, 4)
    settings.execution.max_workers = 1
    settings.process.ultimate_exiting_timeout = None
    settings.persistence.finalizer = f"{meta.GROUP}/kopf"
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=meta.GROUP)
    settings.persistence.diffbase_storage = _NoDiffs()
    for resource in resources:
        if resource not in OURS:
            settings.watching.label_selectors[resource.group, resource.version, resource.plural] = OWNED_SELECTOR
