"""One blob into its place in the store: found, waited for, gone on with, or fetched.

Decided here: what spares a download, who of several pulls of one blob fetches it, and what happens when the bytes prove
wrong. Everything is done under the blob's lock, except seeing that it is there already.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path

from pointsman.models.download import Downloader
from pointsman.models.errors import PullError, PullReason
from pointsman.models.manifest import Descriptor
from pointsman.models.partial import BlobLock, Partial, hash_file, read_coverage
from pointsman.models.progress import Meter
from pointsman.models.store import Store
from pointsman.models.threads import in_thread

_FETCHES = 2
"""A blob whose bytes prove wrong is fetched anew once."""
_HASH_STEP = 32 << 20


class Ensurer:
    """Brings the blobs of one pull into one store."""

    def __init__(self, store: Store, downloader: Downloader) -> None:
        self._store = store
        self._downloader = downloader

    async def ensure(self, blob: Descriptor) -> None:
        """Afterwards the blob is in its place, verified."""
        lock_path = self._store.lock_path(blob)
        if await in_thread(self._store.trusts_blob, blob) and not lock_path.exists():
            self._downloader.meter.found(blob.size)
            return
        elsewhere = _Elsewhere(self._store, blob, self._downloader.meter)
        lock = BlobLock(lock_path)
        await lock.acquire(self._downloader.clockwork.sleep, elsewhere.look)
        done = False
        try:
            elsewhere.forget()
            await self._ensure_locked(blob)
            done = True
        finally:
            lock.release(remove=done)

    async def _ensure_locked(self, blob: Descriptor) -> None:
        store = self._store
        if await in_thread(store.trusts_blob, blob):  # another Job was faster, or killed before it had tidied up
            await in_thread(store.discard_partial, blob)
            self._downloader.meter.found(blob.size)
            return
        if store.has_blob(blob) and await _digest_of_file(store.blob_path(blob), blob.size) == blob.digest:
            # A journal without its partial file: we brought the blob, and were killed before we could say so.
            ours = store.journal_path(blob).exists() and not store.partial_path(blob).exists()
            await in_thread(store.record_blob, blob, fetched=ours)
            await in_thread(store.discard_partial, blob)
            self._downloader.meter.found(blob.size)
            return
        for _ in range(_FETCHES):
            if await self._fetch(blob):
                return
        raise PullError(
            PullReason.CORRUPT_BLOB,
            f"{blob.digest} arrived damaged from the registry, twice; look at it and at proxies.",
        )

    async def _fetch(self, blob: Descriptor) -> bool:
        """False when the bytes proved wrong; they are thrown away then."""
        partial = await in_thread(Partial, self._store, blob)
        try:
            self._downloader.meter.found(partial.written.total)
            if await self._downloader.fetch(partial) == blob.digest:
                await in_thread(partial.adopt)
                return True
            self._downloader.meter.found(-blob.size)
            await in_thread(partial.discard)
            return False
        finally:
            with suppress(OSError):  # on the way out: the bytes would only be fetched again
                await self._downloader.checkpointer.flush(partial)
            partial.close()


class _Elsewhere:
    """Counts what another Job has of a blob while we wait for it."""

    def __init__(self, store: Store, blob: Descriptor, meter: Meter) -> None:
        self._store = store
        self._blob = blob
        self._meter = meter
        self._seen: int | None = None

    def look(self) -> None:
        there = read_coverage(self._store, self._blob).total
        if self._seen is None:
            self._meter.found(there)
        elif there > self._seen:
            self._meter.elsewhere(there - self._seen)
        else:
            self._meter.found(there - self._seen)  # gone: the other has finished, or thrown it away
        self._seen = there

    def forget(self) -> None:
        """The lock is ours: what is there is counted by looking at it."""
        self._meter.found(-(self._seen or 0))
        self._seen = None


async def _digest_of_file(path: Path, size: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for start in range(0, size, _HASH_STEP):
            await in_thread(hash_file, file.fileno(), digest, start, min(size, start + _HASH_STEP))
    return "sha256:" + digest.hexdigest()
