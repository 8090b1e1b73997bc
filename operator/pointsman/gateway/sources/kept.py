"""What a standalone gateway remembers over a restart, in one file of its state directory.

Decided here: what is worth it, and for how long.

- *Endpoints that were Unhealthy*: else the first requests after a restart would wait for a server that hangs. They come
  back as Unhealthy, are checked at once and return by the usual way: good checks, then a ramp.
- *Servers that discovery found*: else a name would be gone when its server is away at the moment of the restart.
- *The last fallback of each route*, for people. Its count begins anew.

Not worth it: the table (the manifests are still there), counters (Prometheus knows about restarts), busy and missing
models (they pass within a minute), refused credentials (they may be the reason of the restart), connections.

The file is replaced whole when something changed, every `AGE_SECONDS / 10` in any case, and at the end. Without a clean
end up to `WRITE_SECONDS` are lost. A file older than `AGE_SECONDS`, or of another form, is ignored. It holds names,
addresses and reasons, no secret.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from pointsman.domain.health import State
from pointsman.domain.probed import Probed, ProbeOutcome
from pointsman.domain.report import FallbackEvent
from pointsman.gateway.sources.discovery import Discovery
from pointsman.gateway.sources.findings import Finding, Sighting
from pointsman.gateway.sources.saved import replace_file
from pointsman.gateway.state import GatewayState

_log = logging.getLogger(__name__)

FILE = "standalone.json"
AGE_SECONDS = 600.0
WRITE_SECONDS = 2.0
_FORM = 1


class Ill(msgspec.Struct, frozen=True):
    """Why an endpoint was Unhealthy."""

    reason: str
    message: str


class Kept(msgspec.Struct, frozen=True):
    """The file. `at` is Unix seconds."""

    at: float
    ill: dict[str, Ill] = {}
    """By the endpoint's key."""
    fallbacks: dict[str, FallbackEvent] = {}
    found: tuple[tuple[float, Finding], ...] = ()
    """Seconds since it was seen."""
    form: int = _FORM


def read(folder: Path, now: float) -> Kept | None:
    """What was kept; None when there is nothing, or nothing that can be relied on. `now` is Unix seconds."""
    try:
        kept = msgspec.json.decode((folder / FILE).read_bytes(), type=Kept)
    except (OSError, msgspec.DecodeError):
        return None
    return kept if kept.form == _FORM and 0 <= now - kept.at < AGE_SECONDS else None


class Keeper:
    """Reads at once, `restore`s when there is a table, writes while `run` runs."""

    def __init__(
        self,
        folder: Path,
        state: GatewayState,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._folder = folder
        self._state = state
        self._clock = clock
        self._wall = wall
        self._kept = read(folder, wall())
        self._discovery: Discovery | None = None
        self._written: Kept | None = None
        self._failed = False

    def sightings(self) -> tuple[Sighting, ...]:
        """For `Discovery`, by its clock."""
        if self._kept is None:
            return ()
        ago = self._clock() - (self._wall() - self._kept.at)
        return tuple(Sighting(finding, ago - age) for age, finding in self._kept.found)

    def restore(self) -> None:
        """Brings back the health of endpoints that are still in the table, and the last fallbacks of its routes."""
        if self._kept is None:
            return
        state = self._state
        for backend, endpoint in state.health.endpoints():
            ill = self._kept.ill.get(endpoint.key)
            if ill is not None:
                now = state.clock()
                probed = Probed(ProbeOutcome.FAILED, now, reason=ill.reason, message=ill.message)
                for _ in range(backend.probe.failure_threshold):
                    state.observe_probe(endpoint.key, probed)
                _log.info("backend %s was Unhealthy before the restart: %s", backend.name, ill.message)
        for route, event in self._kept.fallbacks.items():
            if route in state.table.routes:
                state.last_fallback.setdefault(route, msgspec.structs.replace(event, count=0))

    async def run(self, discovery: Discovery | None) -> None:
        """Writes until cancelled."""
        self._discovery = discovery
        while True:
            await asyncio.sleep(WRITE_SECONDS)
            last, now = self._written, self._now()
            if last is None or _essence(now) != _essence(last) or now.at - last.at >= AGE_SECONDS / 10:
                self._write(now)

    def write(self) -> None:
        """Writes now. A failure is logged, once: serving goes on."""
        self._write(self._now())

    def _write(self, kept: Kept) -> None:
        try:
            replace_file(self._folder / FILE, msgspec.json.encode(kept))
        except OSError as error:
            if not self._failed:
                _log.error("cannot keep the state in %s: %s", self._folder, error.strerror)
            self._failed = True
        else:
            self._failed = False
        self._written = kept

    def _now(self) -> Kept:
        state, now = self._state, self._clock()
        ill = {}
        for _, endpoint in state.health.endpoints():
            machine = state.health.machine(endpoint.key)
            if machine is not None and machine.state is State.UNHEALTHY:
                ill[endpoint.key] = Ill(machine.reason, machine.message)
        known = self._discovery.known if self._discovery else ()
        found = tuple((round(now - s.at, 1), s.finding) for s in known)
        return Kept(self._wall(), ill, dict(state.last_fallback), found)


def _essence(kept: Kept) -> Kept:
    """Without what time alone changes."""
    return msgspec.structs.replace(kept, at=0.0, found=tuple((0.0, finding) for _, finding in kept.found))
