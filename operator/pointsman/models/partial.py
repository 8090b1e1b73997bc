"""A blob that grows in staging: its bytes, its journal, and the lock of whoever writes it.

Invariants:
- One process at a time holds a blob's lock; the kernel frees it when that process dies, however it dies.
- The journal names only bytes that were synced before (`journal.py`).
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path

from pointsman.models import journal
from pointsman.models.blob import Blob
from pointsman.models.coverage import Coverage, Range
from pointsman.models.pool import Pool
from pointsman.models.volume import STAGING_FILE_MODE, sync_dir

LOCK_POLL_SECONDS = 0.5
_READ_BYTES = 1 << 20
_PIECE_BYTES = 64 << 10
"""So much goes to the kernel at once. For more, recent kernels look for memory in larger pieces, and on a virtual
machine whose host takes back free memory those are the ones it has taken back: 2 GB took 4.7 s in pieces of 512 KiB and
3.4 s in these (ext4, Linux 6.18)."""


class BlobLock:
    """An exclusive lock on a blob's place in staging, between processes and (where the volume can) nodes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    async def acquire(self, sleep: Callable[[float], Awaitable[None]], on_wait: Callable[[], None]) -> None:
        """Waits for it; `on_wait` is called before each further try. Raises `OSError`."""
        while not self._try():
            on_wait()
            await sleep(LOCK_POLL_SECONDS)

    def _try(self) -> bool:
        descriptor = _open_shared(self._path, os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), os.stat(self._path)):
                self._descriptor = descriptor
                return True
        except (BlockingIOError, FileNotFoundError):
            pass  # held by another, or its holder has just finished and removed the file
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)
        return False

    def release(self, *, remove: bool) -> None:
        """Gives the lock back; `remove` also removes its file, when nothing is left to guard."""
        if remove:
            self._path.unlink(missing_ok=True)
        os.close(self._descriptor)


class Partial:
    """The open partial file of one blob; its lock is held by the caller. Closed by `close`."""

    def __init__(self, pool: Pool, blob: Blob) -> None:
        self.blob = blob
        self._pool = pool
        self._path = pool.partial_path(blob)
        self._journal_path = pool.journal_path(blob)
        self._file = _open_shared(self._path, os.O_RDWR)
        self._journal = -1
        try:
            durable = read_coverage(pool, blob).clipped(os.fstat(self._file).st_size)
            self._start_journal(durable)
        except OSError:
            self.close()
            raise
        self.written = durable
        """What is in the file, synced or not; a superset of the journal."""
        self.grew = asyncio.Event()
        """Set after each write."""

    def _start_journal(self, durable: Coverage) -> None:
        """Writes the journal anew: short, and without a torn end."""
        fresh = self._journal_path.with_suffix(".journal-new")
        fresh.unlink(missing_ok=True)  # of a run that was killed just here
        self._journal = _open_shared(fresh, os.O_WRONLY | os.O_APPEND)
        _write_all(self._journal, journal.whole(self.blob.known_as, self.blob.size, durable))
        os.fdatasync(self._journal)
        os.rename(fresh, self._journal_path)
        sync_dir(self._journal_path.parent)

    def write(self, at: int, chunks: Sequence[bytes]) -> None:
        """Writes the chunks one after the other from position `at` on; blocking, from any thread."""
        for chunk in chunks:
            left = memoryview(chunk)
            while left:
                count = os.pwrite(self._file, left[:_PIECE_BYTES], at)
                at += count
                left = left[count:]

    def note_written(self, start: int, end: int) -> None:
        """Tells the event loop's side that these bytes were written."""
        self.written.add(start, end)
        self.grew.set()

    def sync(self, ranges: Sequence[Range]) -> None:
        """Makes these written ranges durable and says so in the journal; blocking, from any thread."""
        os.fdatasync(self._file)
        if ranges:
            _write_all(self._journal, journal.entries(ranges))
            os.fdatasync(self._journal)

    def hash_into(self, digest: hashlib._Hash, start: int, end: int) -> None:
        """Adds bytes `start` to `end` to a running digest; blocking, from any thread."""
        hash_file(self._file, digest, start, end)

    def git_oid(self) -> str:
        """The sha1 that git would know the whole file by; blocking, for small files."""
        found = hashlib.sha1(f"blob {self.blob.size}\0".encode(), usedforsecurity=False)
        self.hash_into(found, 0, self.blob.size)
        return found.hexdigest()

    def adopt(self, digest: str) -> None:
        """Puts the whole, synced and verified file in its place."""
        os.fsync(self._file)
        self._pool.adopt(self.blob, digest)
        self._journal_path.unlink(missing_ok=True)

    def discard(self) -> None:
        """Throws away what was fetched."""
        self._pool.discard_partial(self.blob)

    def close(self) -> None:
        """Closes the files; nothing is lost that was synced."""
        os.close(self._file)
        if self._journal >= 0:
            os.close(self._journal)


def read_coverage(pool: Pool, blob: Blob) -> Coverage:
    """What the journal of a partial blob says; nothing without one. Raises `OSError`."""
    try:
        text = pool.journal_path(blob).read_bytes()
    except FileNotFoundError:
        return Coverage()
    return journal.replay(text, blob.known_as, blob.size)


def allocated_bytes(pool: Pool, blob: Blob) -> int:
    """What a partial blob already takes on the volume: resuming needs this much less."""
    try:
        blocks = pool.partial_path(blob).stat().st_blocks * 512
    except FileNotFoundError:
        return 0
    return min(blob.size, max(blocks, read_coverage(pool, blob).total))


def hash_file(file: int, digest: hashlib._Hash, start: int, end: int) -> None:
    """Adds bytes `start` to `end` of an open file to a running digest. Raises `OSError`."""
    buffer = bytearray(min(_READ_BYTES, max(1, end - start)))
    view = memoryview(buffer)
    while start < end:
        count = os.preadv(file, [view[: end - start]], start)
        if count == 0:
            raise OSError(None, "the file became shorter")
        digest.update(view[:count])
        start += count


def _open_shared(path: Path, flags: int) -> int:
    """Opens or makes a file of staging that any pod with the volume's group may go on with."""
    descriptor = os.open(path, flags | os.O_CREAT | os.O_CLOEXEC, STAGING_FILE_MODE)
    with suppress(PermissionError):  # another user's file, which has the mode already
        os.fchmod(descriptor, STAGING_FILE_MODE)
    return descriptor


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
