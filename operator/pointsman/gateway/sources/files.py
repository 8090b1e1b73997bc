"""Standalone: the table comes from a directory of manifests, from what discovery found, or from both, and follows them.

Decided here: when the files are read again, and that bad ones leave the last good table in service. Not here: what they
say (`manifests.py`), what discovery adds (`findings.py`).

A change is taken up when two looks in a row see the same files, so that a file that is being written is not read half.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from pointsman.domain.compiling import compile_table
from pointsman.domain.table import RoutingTable
from pointsman.gateway.sources.manifests import EMPTY, ManifestError, Manifests, load, manifest_files
from pointsman.gateway.sources.source import SourceStatus
from pointsman.gateway.state import GatewayState

_log = logging.getLogger(__name__)

POLL_SECONDS = 0.5
SETTLE_SECONDS = 0.1
"""The second look."""

Signature = tuple[tuple[str, int, int, int], ...]


def signature(directory: Path | None) -> Signature:
    """Names, times of change (ns), sizes (bytes) and inodes of what links point to. Differs when a file is edited,
    added, removed or exchanged, as a ConfigMap's update does with its one link. Never raises."""
    found: list[tuple[str, int, int, int]] = []
    if directory is None:
        return ()
    try:
        for path in manifest_files(directory):
            try:
                s = path.stat()
                found.append((path.name, s.st_mtime_ns, s.st_size, s.st_ino))
            except OSError:
                found.append((path.name, 0, -1, 0))
    except OSError:
        return (("", 0, -1, 0),)
    return tuple(found)


def compile_manifests(manifests: Manifests) -> RoutingTable:
    m = manifests
    return compile_table(m.backends.values(), m.routes.values(), {}, m.secrets, config_maps=m.config_maps)


class FileSource:
    """Keeps `state.table` equal to what `directory` says and `extend` adds to it: from the manifests read now and those
    served so far to those to serve."""

    def __init__(
        self,
        directory: Path | None,
        state: GatewayState,
        status: SourceStatus,
        extend: Callable[[Manifests, Manifests], Manifests] | None = None,
    ) -> None:
        self._directory = directory
        self._extend = extend
        self._state = state
        self._status = status
        self._manifests = EMPTY
        self._seen: Signature = ()
        self._asked = asyncio.Event()

    def load(self) -> None:
        """Reads the files and serves by them. Raises `ManifestError`; the last good table stays then."""
        self._take(self._read())

    def _read(self) -> tuple[Manifests, RoutingTable] | None:
        """What the files say; None when it is the same as before. Touches nothing else: it may run in a thread."""
        self._seen = signature(self._directory)
        before = self._manifests
        manifests = EMPTY if self._directory is None else load(self._directory, before)
        if self._extend is not None:
            manifests = self._extend(manifests, before)
        if manifests == before and self._status.loaded:
            return None
        return manifests, compile_manifests(manifests)

    def _take(self, read: tuple[Manifests, RoutingTable] | None) -> None:
        if read is None:
            self._status.unchanged()
            return
        self._manifests, table = read
        self._state.set_table(table)
        self._status.succeeded()
        explain_table(table)

    def reload(self) -> None:
        """Reads everything again soon, changed or not (SIGHUP, or something was found)."""
        self._asked.set()

    async def run(self) -> None:
        """Follows the directory until cancelled."""
        while True:
            try:
                await asyncio.wait_for(self._asked.wait(), POLL_SECONDS)
                self._asked.clear()
            except TimeoutError:
                if signature(self._directory) == self._seen:
                    continue
            await self._settled()
            try:
                # In a thread: a thousand manifests take a second, which requests should not have to wait.
                self._take(await asyncio.to_thread(self._read))
                table = self._state.table
                _log.info("table read: %d backends, %d routes", len(table.backends), len(table.routes))
            except ManifestError as e:
                problems = tuple(map(str, e.problems))
                self._status.failed(problems)
                _log.error("bad manifests, the last good ones stay in service", extra={"problems": problems})

    async def _settled(self) -> None:
        """Returns when nobody is writing (or after 20 looks: somebody always is)."""
        before = signature(self._directory)
        for _ in range(20):
            await asyncio.sleep(SETTLE_SECONDS)
            now = signature(self._directory)
            if now == before:
                return
            before = now


def explain_table(table: RoutingTable) -> None:
    """Says in the log what of the resources cannot serve."""
    for clash in table.clashes:
        _log.warning("ModelRoute %s: the name %s belongs to ModelRoute %s", clash.route, clash.model, clash.winner)
    for route in table.routes.values():
        for broken in route.broken:
            _log.warning("ModelRoute %s: %s", route.name, broken.message)
