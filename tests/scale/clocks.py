"""How long changes take until they are carried out, seen from the API server and from a client of the gateway."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
from tests.operator.hands import change

from pointsman.kube.client import Client
from pointsman.kube.connect import Connection
from pointsman.kube.reflector import Items, Reflector, Selection
from pointsman.kube.resources import BACKENDS, DEPLOYMENTS, ROUTES, SERVICES, Obj, Resource, name_of, uid_of

PATIENCE_SECONDS = 120.0
"""Longer waits end the run."""
_LOOK_SECONDS = 0.002
"""Between two questions to the gateway."""


@dataclass(frozen=True)
class Times:
    """Of a number of changes, one after the other."""

    count: int
    median: float
    p99: float
    worst: float


def times(seconds: list[float]) -> Times:
    ordered = sorted(seconds)
    return Times(len(ordered), ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)], ordered[-1])


class Seen:
    """All objects of one kind in a namespace, as a watch tells of them."""

    def __init__(self, api: Connection, namespace: str, resource: Resource) -> None:
        self._reflector = Reflector(
            api, Selection(resource.group, resource.version, resource.plural, namespace), self._changed
        )
        self._told = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def _changed(self, _: Items) -> None:
        self._told.set()

    @property
    def items(self) -> Items:
        return self._reflector.items

    async def __aenter__(self) -> Seen:
        self._task = asyncio.create_task(self._reflector.run())
        await asyncio.wait_for(self._reflector.synced.wait(), PATIENCE_SECONDS)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def until(self, check: Callable[[Items], bool], seconds: float = PATIENCE_SECONDS) -> None:
        """Raises `TimeoutError`."""
        async with asyncio.timeout(seconds):
            while not check(self.items):
                self._told.clear()
                await self._told.wait()


async def specs(api: Connection, namespace: str, names: list[str]) -> list[float]:
    """Seconds from a changed spec to the changed Deployment, each."""
    out = []
    async with Seen(api, namespace, DEPLOYMENTS) as deployments:
        for n, name in enumerate(names):
            child = f"pmb-{name}"
            before = deployments.items[child]["spec"]["template"]
            await change(api, BACKENDS, namespace, name, with_memory(100 + n))
            began = time.monotonic()
            await deployments.until(lambda items, c=child, b=before: items[c]["spec"]["template"] != b)  # type: ignore[misc]
            out.append(time.monotonic() - began)
    return out


def with_memory(mb: int) -> Obj:
    """A change of a backend's spec, and so of its pods."""
    return {"spec": {"resources": {"requests": {"memory": f"{mb}Mi"}}}}


async def drift(api: Connection, namespace: str, names: list[str]) -> list[float]:
    """Seconds from a deleted Service to the new one, each."""
    out = []
    async with Seen(api, namespace, SERVICES) as services:
        for name in names:
            child = f"pmb-{name}"
            uid = uid_of(services.items[child])
            await Client(api).delete(SERVICES, namespace, child, uid=uid)
            began = time.monotonic()
            await services.until(lambda items, c=child, u=uid: c in items and uid_of(items[c]) != u)  # type: ignore[misc]
            out.append(time.monotonic() - began)
    return out


async def routed(api: Connection, namespace: str, names: list[str], gateway: str) -> list[float]:
    """Seconds from a route's new model name to the gateway that knows it, each. `gateway`: its base URL."""
    out = []
    async with aiohttp.ClientSession() as http:
        for name in names:
            await change(api, ROUTES, namespace, name, {"spec": {"models": [name, f"{name}-new"]}})
            began = time.monotonic()
            await soon(lambda n=name: _knows(http, gateway, f"{n}-new"), f"{name} routed")  # type: ignore[misc]
            out.append(time.monotonic() - began)
    return out


async def soon(check: Callable[[], Awaitable[Any]], what: str, seconds: float = PATIENCE_SECONDS) -> None:
    """Asks again and again. Raises `TimeoutError`."""
    until = time.monotonic() + seconds
    while not await check():
        if time.monotonic() > until:
            raise TimeoutError(f"not within {seconds:g} s: {what}")
        await asyncio.sleep(_LOOK_SECONDS)


async def _knows(http: aiohttp.ClientSession, gateway: str, model: str) -> bool:
    async with http.get(f"{gateway}/v1/models/{model}") as answer:
        return answer.status == 200


def handled(objects: Items) -> bool:
    """The operator has seen every one of them as it is now."""
    return all((o.get("status") or {}).get("observedGeneration") == _generation(o) for o in objects.values())


def ready(objects: Items) -> bool:
    return not unready(objects)


def unready(objects: Items) -> list[str]:
    return [name_of(o) for o in objects.values() if not _is_ready(o)]


def _is_ready(obj: Obj) -> bool:
    for one in (obj.get("status") or {}).get("conditions") or ():
        if one["type"] == "Ready":
            return one["status"] == "True" and one["observedGeneration"] == _generation(obj)
    return False


def _generation(obj: Obj) -> int:
    return int(obj["metadata"]["generation"])
