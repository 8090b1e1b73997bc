"""Which GPUs the cluster's nodes have: listed when somebody asks, and not again for a while.

Nodes are not watched: they change all the time, and matter only to backends that want GPUs. An operator that may not
list them (an install for some namespaces) knows nothing of them, and says so by None.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from pointsman.controllers.placing import GpuNode, gpu_node
from pointsman.kube.client import ApplyClient
from pointsman.kube.connect import ApiError, Forbidden
from pointsman.kube.resources import NODES

log = logging.getLogger(__name__)

FRESH_SECONDS = 20.0
FORBIDDEN_SECONDS = 600.0
"""How soon to ask again for a right that was not there."""


class Nodes:
    """Lists nodes at most once in `FRESH_SECONDS`."""

    def __init__(self, client: ApplyClient, clock: Callable[[], float]) -> None:
        self._client = client
        self._clock = clock
        self._known: tuple[GpuNode, ...] | None = None
        self._again_at = 0.0
        self._lock = asyncio.Lock()

    async def gpus(self) -> tuple[GpuNode, ...] | None:
        """The nodes with GPUs; None when they may not be read. An API server that is away leaves the last view."""
        async with self._lock:
            now = self._clock()
            if now < self._again_at:
                return self._known
            try:
                items, _ = await self._client.list(NODES, None)
            except Forbidden:
                self._known, self._again_at = None, now + FORBIDDEN_SECONDS
            except ApiError as error:
                log.info("nodes cannot be listed: %s", error)
                self._again_at = now + FRESH_SECONDS
            else:
                self._known = tuple(n for item in items if (n := gpu_node(item)) is not None)
                self._again_at = now + FRESH_SECONDS
            return self._known
