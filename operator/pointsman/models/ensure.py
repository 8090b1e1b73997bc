"""One blob into its place in the store: found, waited for, gone on with, or fetched.

Decided here: what spares a download, who of several pulls of one blob fetches it, and what happens when the bytes prove
wrong. Everything is done under the blob's lock, except seeing that it is there already.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path

from pointsman.models.blob import Blob
from pointsman.models.download import Downloader
from pointsman.models.errors import PullError, PullReason
from pointsman.models.partial import BlobLock, Partial, hash_file, read_coverage
from pointsman.models.pool import Pool
from pointsman.models.progress import Meter
from pointsman.models.threads import in_thread

_FETCHES = 2
"""A blob whose bytes prove wrong is fetched anew once."""
_HASH_STEP = 32 << 20


class Ensurer:
    """Brings the blobs of one pull into one pool."""

    def __init__(self, pool: Pool, downloader: Downloader, *, verify: bool = False) -> None:
        """`verify`: whatever is there is hashed again, as if nothing were known of it."""
        self._pool = pool
        self._downloader = downloader
        self._verify = verify

    async def ensure(self, blob: Blob) -> str:
        """Afterwards the blob is in its place, verified. Returns its digest. Raises `PullError`, `OSError`."""
        lock_path = self._pool.lock_path(blob)
        digest = await in_thread(self._trusted, blob)
        if digest and not lock_path.exists():
            self._downloader.meter.found(blob.size)
            return digest
        elsewhere = _Elsewhere(self._pool, blob, self._downloader.meter)
        lock = BlobLock(lock_path)
        await lock.acquire(self._downloader.clockwork.sleep, elsewhere.look)
        done = False
        try:
            elsewhere.forget()
            digest = await self._ensure_locked(blob)
            done = True
        finally:
            lock.release(remove=done)
        return digest

    def _trusted(self, blob: Blob) -> str:
        """The blob's digest when it is there and known to be whole; else empty."""
        digest = self._pool.digest_of(blob)
        return digest if digest and not self._verify and self._pool.trusts(digest, blob.size) else ""

    async def _ensure_locked(self, blob: Blob) -> str:
        pool = self._pool
        digest = await in_thread(self._trusted, blob)
        if digest:  # another Job was faster, or killed before it had tidied up
            await in_thread(pool.discard_partial, blob)
            self._downloader.meter.found(blob.size)
            return digest
        expected = pool.digest_of(blob)
        if pool.has(blob) and await _digest_of_file(pool.blob_path(expected), blob.size) == expected:
            # A journal without its partial file: we brought the blob, and were killed before we could say so.
            ours = pool.journal_path(blob).exists() and not pool.partial_path(blob).exists()
            record = pool.record_of(expected)
            await in_thread(pool.record, expected, fetched=ours or (record is not None and record.fetched))
            await in_thread(pool.discard_partial, blob)
            self._downloader.meter.found(blob.size)
            return expected
        for _ in range(_FETCHES):
            digest = await self._fetch(blob)
            if digest:
                return digest
        raise PullError(
            PullReason.CORRUPT_BLOB,
            f"{blob.where} arrived damaged from the source, twice; look at it and at proxies.",
        )

    async def _fetch(self, blob: Blob) -> str:
        """The digest; empty when the bytes proved wrong: they are thrown away then."""
        partial = await in_thread(Partial, self._pool, blob)
        try:
            resumed = partial.written.total
            self._downloader.meter.found(resumed)
            digest = await self._downloader.fetch(partial)
            if blob.digest in ("", digest) and (not blob.git_oid or await in_thread(partial.git_oid) == blob.git_oid):
                await in_thread(partial.adopt, digest)
                return digest
            self._downloader.meter.found(-blob.size)
            await in_thread(partial.discard)
            if blob.pinned and not resumed:  # all of it came in one go: it is what the source has
                raise PullError(
                    PullReason.DIGEST_MISMATCH,
                    f"{blob.where} is {digest}, not the pinned {blob.digest}; change the pin.",
                )
            return ""
        finally:
            with suppress(OSError):  # on the way out: the bytes would only be fetched again
                await self._downloader.checkpointer.flush(partial)
            partial.close()


class _Elsewhere:
    """Counts what another Job has of a blob while we wait for it."""

    def __init__(self, pool: Pool, blob: Blob, meter: Meter) -> None:
        self._pool = pool
        self._blob = blob
        self._meter = meter
        self._seen: int | None = None

    def look(self) -> None:
        there = read_coverage(self._pool, self._blob).total
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
