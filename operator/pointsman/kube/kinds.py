"""Which kinds of others the cluster has: those that need not be there, and may come and go while the operator runs.

Decided here: when the API server is asked. While a kind is missing, only as somebody wants it, and not more often than
every `LOOK_SECONDS`; once it is there, not at all: its watch says when it goes.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from pointsman.kube.connect import Connection, Forbidden, NotFound
from pointsman.kube.resources import OWNED_SELECTOR, Resource

LOOK_SECONDS = 10.0


class Kinds(Protocol):
    """Who knows which kinds of others there are."""

    async def missing(self, resource: Resource) -> str:
        """Why objects of this kind cannot be had, in a sentence that says what to do; empty when they can. Raises
        `ApiError`."""
        ...


async def look(connection: Connection, resource: Resource, namespaces: tuple[str, ...] = ()) -> str:
    """Asks the API server: as `Kinds.missing`. `namespaces`: empty for the whole cluster."""
    try:
        for namespace in namespaces or (None,):
            params = {"labelSelector": OWNED_SELECTOR, "limit": "1"}
            await connection.request("GET", resource.path(namespace), params=params)
    except NotFound:
        return (
            f"the cluster has no {resource.kind} ({resource.api_version}), which vllm.nodes needs: install it, or"
            " remove vllm.nodes"
        )
    except Forbidden:
        return f"the operator may not read {resource.plural}.{resource.group}: upgrade the chart, whose role allows it"
    return ""


class OptionalKinds:
    """`Kinds` of a running operator. `appeared` is awaited before a kind first counts as there."""

    def __init__(
        self,
        ask: Callable[[Resource], Awaitable[str]],
        appeared: Callable[[Resource], Awaitable[None]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask = ask
        self._appeared = appeared
        self._clock = clock
        self._known: dict[Resource, tuple[str, float]] = {}
        """What was said last, and when."""

    async def missing(self, resource: Resource) -> str:
        why, at = self._known.get(resource, ("?", float("-inf")))
        if why and self._clock() - at >= LOOK_SECONDS:
            why = await self._ask(resource)
            if not why:
                await self._appeared(resource)
            self._known[resource] = (why, self._clock())
        return why

    def gone(self, resource: Resource) -> None:
        """Its watch says that it is not there any more."""
        self._known.pop(resource, None)
