"""Leader election by a Lease: one operator reconciles, the others stand by.

Invariants: whoever holds the lease stops (`lost`) before another can take it: it renews every `RETRY_SECONDS`, gives up
`RENEW_SECONDS` after the last success by its own monotonic clock, and another takes over `DURATION_SECONDS` after the
last change *that it saw itself* (clocks of machines are never compared). A graceful end releases the lease, so that the
next one starts at once; so does a candidate whose identity holds it already: it was started again, and no two ever have
the same at a time. The client library's own election is broken in 37.0.2.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime

from pointsman.kube.client import ApplyClient
from pointsman.kube.connect import ApiError, Conflict
from pointsman.kube.resources import LEASES, Obj

log = logging.getLogger(__name__)

DURATION_SECONDS = 15.0
RENEW_SECONDS = 10.0
RETRY_SECONDS = 2.0
RELEASE_SECONDS = 2.0


class LeaseLost(Exception):
    """Another may reconcile by now: end the process."""


class Lease:
    """One candidate for one Lease."""

    def __init__(
        self,
        client: ApplyClient,
        namespace: str,
        name: str,
        identity: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._clock = clock
        self._lease: Obj | None = None
        self._seen_at = 0.0
        """When the lease's holder or time last changed, by our clock."""
        self.held = False

    async def acquire(self) -> None:
        """Returns once this candidate leads. Goes on for ever when the API server is away."""
        while True:
            try:
                if await self._try():
                    self.held = True
                    log.info("leading", extra={"identity": self._identity})
                    return
            except ApiError as error:
                log.warning("no lease yet: %s", error.message)
            await asyncio.sleep(RETRY_SECONDS)

    async def hold(self) -> None:
        """Renews until cancelled. Raises `LeaseLost`."""
        last = self._clock()
        while True:
            await asyncio.sleep(RETRY_SECONDS)
            left = last + RENEW_SECONDS - self._clock()
            renewed = False
            try:
                async with asyncio.timeout(max(0.0, left)):
                    renewed = await self._try()
            except (ApiError, TimeoutError) as error:
                log.warning("the lease could not be renewed: %s", error)
            if renewed:
                last = self._clock()
            elif self._taken() or self._clock() - last >= RENEW_SECONDS:
                self.held = False
                raise LeaseLost(f"another operator may hold the lease {self._name} by now")

    async def release(self) -> None:
        """Lets the next one in at once."""
        if not self.held or self._lease is None:
            return
        self.held = False
        spec = {**self._lease["spec"], "holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _now()}
        try:
            async with asyncio.timeout(RELEASE_SECONDS):
                await self._client.replace({**self._lease, "spec": spec})
        except (ApiError, TimeoutError) as error:
            log.warning("the lease was not released: %s", error)

    def _taken(self) -> bool:
        holder = ((self._lease or {}).get("spec") or {}).get("holderIdentity")
        return bool(holder) and holder != self._identity

    async def _try(self) -> bool:
        """Takes or renews the lease; False when another holds it."""
        now = self._clock()
        live = await self._client.get(LEASES, self._namespace, self._name)
        if live is None:
            return await self._write(None, 0)
        spec = live.get("spec") or {}
        old = (self._lease or {}).get("spec") or {}
        if self._lease is None or any(old.get(k) != spec.get(k) for k in ("holderIdentity", "renewTime")):
            self._seen_at = now
        self._lease = live
        holder = spec.get("holderIdentity") or ""
        duration = float(spec.get("leaseDurationSeconds") or DURATION_SECONDS)
        if holder and holder != self._identity and now < self._seen_at + duration:
            return False
        changes = int(spec.get("leaseTransitions") or 0) + (holder != self._identity)
        return await self._write(live, changes)

    async def _write(self, live: Obj | None, changes: int) -> bool:
        now = _now()
        acquired = now
        if live is not None and (live.get("spec") or {}).get("holderIdentity") == self._identity:
            acquired = live["spec"].get("acquireTime") or now
        metadata = live["metadata"] if live else {"name": self._name, "namespace": self._namespace}
        manifest: Obj = {
            "apiVersion": LEASES.api_version,
            "kind": LEASES.kind,
            "metadata": metadata,
            "spec": {
                "holderIdentity": self._identity,
                "leaseDurationSeconds": int(DURATION_SECONDS),
                "acquireTime": acquired,
                "renewTime": now,
                "leaseTransitions": changes,
            },
        }
        try:
            self._lease = await (self._client.create(manifest) if live is None else self._client.replace(manifest))
        except Conflict:
            return False
        self._seen_at = self._clock()
        return True


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
