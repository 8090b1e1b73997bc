"""Writing a status: only when it is another, what may wait in its turn, one Event for each flip of a condition.

Figures (the progress of a pull, the newest fallback, latencies) change all the time, of many objects at once. An object
whose status is another only by them is written once in `FIGURES_SECONDS` at most, all of them together
`1 / FIGURES_SPACING` times a second; where only latencies changed, which they do while nobody asks for anything,
`1 / LATENCY_SPACING` times: an operator at rest must cost the API server next to nothing, however much there is.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Generic, TypeVar

from pointsman.api.backend_status import LLMBackendStatus
from pointsman.api.route import ModelRouteStatus
from pointsman.controllers.conditions import flips
from pointsman.controllers.context import Context
from pointsman.controllers.turns import Turns
from pointsman.kube import events
from pointsman.kube.connect import NotFound
from pointsman.kube.resources import Obj, name_of, resource_of, uid_of

S = TypeVar("S", LLMBackendStatus, ModelRouteStatus)

FIGURES_SECONDS = 1.0
FIGURES_SPACING = 0.1
LATENCY_SPACING = 2.0


class StatusWriter(Generic[S]):
    """Of one kind."""

    def __init__(
        self,
        context: Context,
        figures: Callable[[S], S],
        latency: Callable[[S], S] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`figures` gives a status without its figures, `latency` one without its latency."""
        self._context = context
        self._without: Callable[[S], S] = figures
        self._without_latency: Callable[[S], S] | None = latency
        self._clock = clock
        self._written: dict[str, float] = {}
        """When an object was last written, by its UID."""
        self._figures = Turns(FIGURES_SPACING)
        self._latencies = Turns(LATENCY_SPACING)

    async def write(self, body: Obj, old: S, new: S) -> float | None:
        """Seconds until the figures may be written, when they were held back."""
        if old == new:
            return None
        now = self._clock()
        if (wait := self._wait(uid_of(body), old, new, now)) > 0:
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

    def _wait(self, uid: str, old: S, new: S, now: float) -> float:
        """Seconds until `new` may be written; 0: now."""
        if self._without(old) != self._without(new):
            self._figures.forget(uid)
            self._latencies.forget(uid)
            return 0.0
        if (left := self._written.get(uid, 0.0) + FIGURES_SECONDS - now) > 0:
            return left
        if self._without_latency is not None and self._without_latency(old) == self._without_latency(new):
            return self._latencies.wait(uid, now)
        return self._figures.wait(uid, now)
