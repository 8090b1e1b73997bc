"""Checks of every endpoint outside traffic: when each is made, on connections of their own.

Decided here: the rhythm. Not here: what is asked and what the answer says (`cheap.py`, `generation.py`), what that does
to an endpoint's health (`domain/health.py`).

- Cheap: a new endpoint, and one whose backend changed, is checked at once, afterwards every `probe.interval` ± 10 %.
  The load of an idle gateway is endpoints / interval checks a second.
  After a good one, an engine that tells its load is asked for it.
- By one token: as `domain/generation.py` says, at most `GENERATIONS_AT_ONCE` at any time.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from collections.abc import Callable

from pointsman.domain.engine_load import tells
from pointsman.domain.generation import LOOK_AGAIN, pause
from pointsman.domain.probed import ProbeOutcome
from pointsman.domain.proxies import NO_PROXIES, Proxies
from pointsman.domain.table import Backend, Endpoint, GenerationPolicy
from pointsman.gateway.insight.events import Event, TableChanged
from pointsman.gateway.probes.cheap import probe
from pointsman.gateway.probes.client import ProbeClient
from pointsman.gateway.probes.generation import generate
from pointsman.gateway.probes.load import engine_load
from pointsman.gateway.state import GatewayState
from pointsman.gateway.upstream.trust import default_tls

_log = logging.getLogger(__name__)

GENERATIONS_AT_ONCE = 4
LEAST_PAUSE = 0.05


class Prober:
    """Probes what `state.table` holds until `close`."""

    def __init__(
        self,
        state: GatewayState,
        jitter: Callable[[], float] = random.random,
        *,
        proxies: Proxies = NO_PROXIES,
        tls: Callable[[], ssl.SSLContext] = default_tls,
    ) -> None:
        self._state = state
        self._jitter = jitter
        self._tasks: dict[str, tuple[Backend, list[asyncio.Task[None]]]] = {}
        self._client = ProbeClient(state.clock, proxies=proxies, tls=tls)
        self._generations = asyncio.Semaphore(GENERATIONS_AT_ONCE)
        self._unsubscribe: Callable[[], None] = lambda: None

    async def start(self) -> None:
        await self._client.__aenter__()
        self._unsubscribe = self._state.subscribe(self._follow)
        self._adopt()

    async def close(self) -> None:
        self._unsubscribe()
        tasks = [task for _, some in self._tasks.values() for task in some]
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._client.__aexit__(None, None, None)

    def _follow(self, event: Event) -> None:
        if isinstance(event, TableChanged):
            self._adopt()

    def _adopt(self) -> None:
        wanted = {endpoint.key: (backend, endpoint) for backend, endpoint in self._state.health.endpoints()}
        for key in [k for k, (backend, _) in self._tasks.items() if k not in wanted or wanted[k][0] != backend]:
            for task in self._tasks.pop(key)[1]:
                task.cancel()
        for key, (backend, endpoint) in wanted.items():
            if key not in self._tasks:
                tasks = [asyncio.create_task(self._keep_probing(backend, endpoint))]
                if (policy := backend.probe.generation) is not None:
                    tasks.append(asyncio.create_task(self._keep_generating(backend, endpoint, policy)))
                self._tasks[key] = (backend, tasks)

    async def _keep_probing(self, backend: Backend, endpoint: Endpoint) -> None:
        while True:
            started = self._state.clock()
            try:
                found = await probe(self._client, backend, endpoint)
            except Exception:  # the boundary: a check that we got wrong must not end the checking
                self._ours(backend)
            else:
                self._state.observe_probe(endpoint.key, found)
                if tells(backend.engine):
                    good = found.outcome is ProbeOutcome.OK
                    load = await engine_load(self._client, backend, endpoint) if good else None
                    self._state.observe_load(endpoint.key, load)
            spent = self._state.clock() - started
            await asyncio.sleep(max(LEAST_PAUSE, backend.probe.interval * (0.9 + 0.2 * self._jitter()) - spent))

    async def _keep_generating(self, backend: Backend, endpoint: Endpoint, policy: GenerationPolicy) -> None:
        state = self._state
        tried = state.clock()
        while (machine := state.health.machine(endpoint.key)) is not None:
            wait = pause(machine, policy, backend.probe.interval, tried, state.clock())
            if wait > 0:
                # Looks again well before it is due: whether it is doubted may change meanwhile.
                await asyncio.sleep(max(LEAST_PAUSE, min(wait, policy.interval * LOOK_AGAIN)))
                continue
            async with self._generations:
                if machine.in_flight:
                    continue
                tried = state.clock()
                try:
                    found = await generate(self._client, backend, endpoint, machine, policy)
                except Exception:  # the boundary, as above
                    self._ours(backend)
                    continue
            if found is not None:
                state.meter.generation_checked(backend.name, found.outcome.value)
                state.observe_generation(endpoint.key, found)

    def _ours(self, backend: Backend) -> None:
        _log.exception("the check of backend %s failed in the gateway itself", backend.name)
