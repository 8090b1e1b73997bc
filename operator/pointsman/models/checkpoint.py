"""When written bytes are made durable: often enough that a kill costs little, seldom enough that it costs no speed.

Invariant: over all blobs together, at most `ceiling` bytes are written, or about to be, and not yet in a journal; who
would go beyond that waits. With a ceiling of a quarter of a part, plus what is still in buffers and sockets
(`download.py`), a kill at any moment costs less than one part (64 MiB by default).
"""

from __future__ import annotations

import asyncio
from collections import defaultdict

from pointsman.models.coverage import Range
from pointsman.models.partial import Partial
from pointsman.models.threads import in_thread


class Checkpointer:
    """Syncs partial blobs behind their writers. `run` must be running while anybody writes."""

    def __init__(self, part_size: int) -> None:
        self._ceiling = max(1, part_size // 4)
        self._trigger = max(1, part_size // 8)
        self._pending: defaultdict[Partial, list[Range]] = defaultdict(list)
        self._unsynced = 0
        self._syncing = asyncio.Lock()
        self._due = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    async def room(self, count: int) -> None:
        """Waits until `count` bytes may be written, and counts them: `wrote` follows, or the pull ends."""
        while self._unsynced and self._unsynced + count > self._ceiling:
            self._room.clear()
            self._due.set()
            await self._room.wait()
        self._unsynced += count

    def wrote(self, partial: Partial, start: int, end: int) -> None:
        """Bytes `start` to `end`, for which there was room, were written."""
        self._pending[partial].append((start, end))
        if self._unsynced >= self._trigger or not self._room.is_set():
            self._due.set()

    async def run(self) -> None:
        """Syncs whenever enough has come together, until cancelled. Raises `OSError`."""
        while True:
            await self._due.wait()
            self._due.clear()
            for partial in list(self._pending):
                await self.flush(partial)

    async def flush(self, partial: Partial) -> None:
        """Makes what was written of one blob durable; afterwards no sync of it is under way. Raises `OSError`."""
        async with self._syncing:
            ranges = self._pending.pop(partial, [])
            if not ranges:
                return
            try:
                await in_thread(partial.sync, ranges)
            finally:
                self._settle(ranges)

    def _settle(self, ranges: list[Range]) -> None:
        self._unsynced -= sum(end - start for start, end in ranges)
        self._room.set()
