"""One blob over the network into its partial file: parts at once, each tried again, hashed while it grows.

The first part goes alone until its answer's headers are there: they show whether the source honours ranges. If it
does not, that one answer is read as the whole blob (bytes that are there already are skipped), otherwise the other
parts follow, as many at once as the limit allows. A part that breaks goes on at the byte where it broke.

What a kill costs is bounded for each part by what the kernel holds (`window.py`), as much again while it is read, and
two writes; and for all together by what is written without a journal (`checkpoint.py`).
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass

from pointsman.models.checkpoint import Checkpointer
from pointsman.models.coverage import Range, parts
from pointsman.models.errors import PullReason
from pointsman.models.origin import Bytes, PassingFailure
from pointsman.models.partial import Partial
from pointsman.models.progress import Meter
from pointsman.models.retry import Clockwork, RetryPolicy
from pointsman.models.threads import in_thread

_MAX_WRITE_BYTES = 512 << 10
"""Chunks are written together in about this size at most; so much of a part may be in memory."""
_HASH_STEP = 32 << 20


@dataclass(frozen=True, slots=True)
class Downloader:
    """What all blobs of one pull share."""

    origin: Bytes
    checkpointer: Checkpointer
    meter: Meter
    slots: asyncio.Semaphore
    """As many parts at once as it lets through."""
    part_size: int
    policy: RetryPolicy
    clockwork: Clockwork

    async def fetch(self, partial: Partial) -> str:
        """Fetches what is missing and syncs all. Returns the digest of what is there now.

        Raises `PullError` and `OSError`, possibly in an `ExceptionGroup`.
        """
        todo = list(parts(partial.written.gaps(partial.blob.size), self.part_size))
        async with asyncio.TaskGroup() as group:
            hashing = group.create_task(_hash_as_it_grows(partial))
            if todo:
                transfer = _Transfer(self, partial)
                group.create_task(transfer.part(todo[0]))
                await transfer.ranges_known.wait()
                if transfer.ranged:
                    for part in todo[1:]:
                        group.create_task(transfer.part(part))
        await self.checkpointer.flush(partial)
        return hashing.result()


class _Transfer:
    """The parts of one blob."""

    def __init__(self, shared: Downloader, partial: Partial) -> None:
        self._shared = shared
        self._partial = partial
        self._write_bytes = min(_MAX_WRITE_BYTES, shared.part_size // 64)
        self._writing = asyncio.Lock()
        # One at a time: the kernel lets one write into a file, and the others would spin on its lock.
        self.ranges_known = asyncio.Event()
        self.ranged = False

    async def part(self, wanted: Range) -> None:
        """Fetches one part, trying again as the policy says. Raises `PullError`."""
        shared = self._shared
        cursor = _Cursor(*wanted)
        failures = 0
        async with shared.slots:
            while cursor.at < cursor.end:
                before = cursor.at
                try:
                    await self._try(cursor)
                except PassingFailure as failure:
                    failures = 1 if cursor.at > before else failures + 1
                    if failures >= shared.policy.attempts:
                        raise
                    chance = shared.clockwork.chance()
                    await shared.clockwork.sleep(shared.policy.delay(failures, chance, failure.retry_after))

    async def _try(self, cursor: _Cursor) -> None:
        blob = self._partial.blob
        async with self._shared.origin.open(blob, cursor.at, cursor.end) as stream:
            if not self.ranges_known.is_set():
                self.ranged = stream.ranged
                self.ranges_known.set()
            if not stream.ranged and not self.ranged:
                cursor.end = blob.size
            skip = cursor.at - stream.start
            pending: list[bytes] = []
            waiting = 0
            broken: PassingFailure | None = None
            try:
                async for chunk in stream.chunks:
                    data = chunk[skip:] if skip else chunk
                    skip -= len(chunk) - len(data)
                    data = data[: cursor.end - cursor.at - waiting]
                    if not data:
                        continue
                    pending.append(data)
                    waiting += len(data)
                    if waiting >= self._write_bytes:
                        await self._write(cursor, pending, waiting)
                        pending, waiting = [], 0
            except PassingFailure as failure:
                broken = failure  # what came before it is good
            if pending:
                await self._write(cursor, pending, waiting)
            if broken:
                raise broken
            if cursor.at < cursor.end:
                raise PassingFailure(PullReason.REGISTRY_ERROR, f"The source ended {blob.where} too early.")

    async def _write(self, cursor: _Cursor, chunks: list[bytes], count: int) -> None:
        shared = self._shared
        await shared.checkpointer.room(count)
        async with self._writing:
            await in_thread(self._partial.write, cursor.at, chunks)
        start, cursor.at = cursor.at, cursor.at + count
        self._partial.note_written(start, cursor.at)
        shared.checkpointer.wrote(self._partial, start, cursor.at)
        shared.meter.fetched(count, shared.clockwork.monotonic())


class _Cursor:
    """Where a part is, and where it ends."""

    def __init__(self, at: int, end: int) -> None:
        self.at = at
        self.end = end


async def _hash_as_it_grows(partial: Partial) -> str:
    """The digest of the whole blob; follows the bytes that are there without a gap from the first on."""
    digest = hashlib.sha256()
    at, size = 0, partial.blob.size
    while at < size:
        upto = min(partial.written.prefix, at + _HASH_STEP)
        if upto == at:
            partial.grew.clear()
            await partial.grew.wait()
            continue
        await in_thread(partial.hash_into, digest, at, upto)
        at = upto
    return "sha256:" + digest.hexdigest()
