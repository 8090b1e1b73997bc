"""Writing a status: only when it is another, figures at most once a second, one Event for each flip of a condition."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Generic, TypeVar

from pointsman.api.backend_status import LLMBackendStatus
from pointsman.api.route import ModelRouteStatus
from pointsman.controllers.conditions import flips
from pointsman.controllers.context import Context
from pointsman.kube import events
from pointsman.kube.connect import NotFound
from pointsman.kube.resources import Obj, name_of, resource_of, uid_of

S = TypeVar("S", LLMBackendStatus, ModelRouteStatus)

FIGURES_SECONDS = 1.0


class StatusWriter(Generic[S]):
    """Of one kind."""

    def __init__(self, context: Context, figures: Callable[[S], S]) -> None:
        """`figures` gives a status without its figures."""
        self._context = context
        self._without: Callable[[S], S] = figures
        self._written: dict[str, float] = {}
        """When figures of an object were last written, by its UID."""

    async def write(self, body: Obj, old: S, new: S) -> float | None:
        """Seconds until the figures may be written, when they were held back."""
        if old == new:
            return None
        now = time.monotonic()
        wait = self._written.get(uid_of(body), 0.0) + FIGURES_SECONDS - now
        if wait > 0 and self._without(old) == self._without(new):
            return wait
        manifest: Obj = {
            "apiVersion": body["apiVersion"],
            "kind": body["kind"],
            "metadata": {"name": name_of(body), "namespace": body["metadata"]["namespace"]},
            "status": new.to_api(),
        }
        try:
            answer = await self._context.client.apply_status(manifest)
        except NotFound:
            return None
        if len(self._written) > 10_000:
            self._written.clear()
        self._written[uid_of(body)] = now
        self._context.cache.put(resource_of(body), answer)
        for condition, bad in flips(old.conditions, new.conditions):
            notice = events.Notice(condition.reason, condition.message or condition.type, warning=bad)
            await events.post(self._context.client, body, notice, self._context.instance)
        return None
