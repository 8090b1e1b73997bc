"""Asking an engine for its load. What its answer says: `domain/engine_load.py`."""

from __future__ import annotations

from pointsman.domain.engine_load import PATH, EngineLoad, read_load
from pointsman.domain.table import Backend, Endpoint
from pointsman.gateway.probes.client import ProbeClient, Unanswered

LIMIT = 4 << 20
"""Bytes of the longest page that is read."""


async def engine_load(client: ProbeClient, backend: Backend, endpoint: Endpoint) -> EngineLoad | None:
    """None when the engine does not tell, in time or at all: that is no failure of it."""
    try:
        async with client.within(backend.probe.timeout):
            answer = await client.request(backend, endpoint, "GET", PATH, LIMIT, 0)
    except Unanswered:
        return None
    return read_load(backend.engine, answer.body) if answer.status == 200 else None
