"""Kinds of others that a cluster need not have, and that may come and go while the operator runs.

Decided here: when the API server is asked whether there is such a kind: while it is missing, only as somebody wants it,
and not more often than every `LOOK_SECONDS`. From then on its objects that carry our label are in the cache, by a watch
of its own: kopf would have to start anew for each kind that comes. Not here: what a change means
(`controllers/keys.py`).
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from typing import Protocol

from pointsman.kube.cache import Cache
from pointsman.kube.client import ApplyClient
from pointsman.kube.connect import ApiError, Connection, Forbidden, Gone, NotFound
from pointsman.kube.resources import OWNED_SELECTOR, Obj, Resource

log = logging.getLogger(__name__)

LOOK_SECONDS = 10.0
BACKOFF_SECONDS = 5.0


class Kinds(Protocol):
    """Who knows which of these kinds there are."""

    async def missing(self, resource: Resource) -> str:
        """Why objects of this kind cannot be had, in a sentence that says what to do; empty when they can, and those
        that carry our label are in the cache. Raises `ApiError`."""
        ...

    def gone(self, resource: Resource) -> None:
        """A write was answered as if there were no such kind: look again."""
        ...


class OptionalKinds:
    """`Kinds` on a real API server. `close()` ends its watches."""

    def __init__(
        self,
        connection: Connection,
        client: ApplyClient,
        cache: Cache,
        namespaces: tuple[str, ...],
        on_change: Callable[[Resource, Obj], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`namespaces`: empty for the whole cluster. `on_change` is called after the cache has changed."""
        self._connection = connection
        self._client = client
        self._cache = cache
        self._namespaces: tuple[str | None, ...] = namespaces or (None,)
        self._on_change = on_change
        self._clock = clock
        self._said: dict[Resource, tuple[str, float]] = {}
        """What was said last of a kind that is missing, and when."""
        self._tasks: dict[Resource, list[asyncio.Task[None]]] = {}
        """The watches of those that are there."""

    async def missing(self, resource: Resource) -> str:
        if resource in self._tasks:
            return ""
        why, at = self._said.get(resource, ("", float("-inf")))
        if self._clock() - at < LOOK_SECONDS:
            return why
        versions = {}
        try:
            for namespace in self._namespaces:
                versions[namespace] = await self._list(resource, namespace)
        except (NotFound, Forbidden) as error:
            why = sentence(resource, error)
            self._said[resource] = (why, self._clock())
            return why
        if resource not in self._tasks:  # somebody else may have asked meanwhile
            self._tasks[resource] = [
                asyncio.create_task(self._follow(resource, *pair), name=f"{resource.plural} of {pair[0] or 'all'}")
                for pair in versions.items()
            ]
        return ""

    def gone(self, resource: Resource) -> None:
        self._said.pop(resource, None)
        for task in self._tasks.pop(resource, ()):
            task.cancel()
        for obj in list(self._cache.all(resource)):
            if self._cache.remove(resource, obj):
                self._on_change(resource, obj)

    async def close(self) -> None:
        for task in [t for tasks in self._tasks.values() for t in tasks]:
            task.cancel()
        self._tasks.clear()

    async def _list(self, resource: Resource, namespace: str | None) -> str:
        items, version = await self._client.list(resource, namespace, labels=OWNED_SELECTOR)
        for obj in self._cache.replace(resource, items, version, namespace):
            self._on_change(resource, obj)
        return version

    async def _follow(self, resource: Resource, namespace: str | None, version: str) -> None:
        while True:
            try:
                while True:
                    version = await self._watch(resource, namespace, version)
            except Gone:
                pass  # of the version: list anew
            except (NotFound, Forbidden):
                break
            except ApiError as error:
                log.info("%s cannot be watched, trying again: %s", resource.plural, error.message)
                await asyncio.sleep(BACKOFF_SECONDS * (0.5 + random.random()))
            try:
                version = await self._list(resource, namespace)
            except (NotFound, Forbidden):
                break
            except ApiError:
                await asyncio.sleep(BACKOFF_SECONDS * (0.5 + random.random()))
        log.info("%s.%s are gone: they are not watched any more", resource.plural, resource.group)
        asyncio.get_running_loop().call_soon(self.gone, resource)  # which ends this task

    async def _watch(self, resource: Resource, namespace: str | None, version: str) -> str:
        """The version up to which the stream came."""
        path = resource.path(namespace)
        async for event in self._connection.watch(
            path, resource_version=version, params={"labelSelector": OWNED_SELECTOR}
        ):
            obj = {"apiVersion": resource.api_version, "kind": resource.kind, **event["object"]}
            version = obj["metadata"]["resourceVersion"]
            if event["type"] == "BOOKMARK":
                continue
            deleted = event["type"] == "DELETED"
            if self._cache.remove(resource, obj) if deleted else self._cache.put(resource, obj):
                self._on_change(resource, obj)
        return version


def sentence(resource: Resource, error: ApiError) -> str:
    """Why there are none of this kind, and what to do."""
    if isinstance(error, Forbidden):
        return f"the operator may not read {resource.plural}.{resource.group}: upgrade the chart, whose role allows it"
    what = f"the cluster has no {resource.kind} ({resource.api_version}), which vllm.nodes needs"
    return f"{what}: install it, or remove vllm.nodes"
