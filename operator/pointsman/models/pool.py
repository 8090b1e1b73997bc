"""Blobs on a volume: where whole ones lie, where others grow, and what we remember about them.

    <blobs>/sha256-<hex>               a blob, whole and verified
    <staging>/<name>.part|journal|lock what is on its way
    <records>/sha256-<hex>.json        this blob was verified, and who brought it
    <records>/id-<hex>.json            the blob that an identity turned out to be

A blob is trusted without reading it when its record has its size and modification time; otherwise it is hashed again.
Garbage collection may touch only blobs whose record says `fetched`.
"""

from __future__ import annotations

import os
import shutil
import stat
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from pointsman.models.blob import Blob
from pointsman.models.volume import FILE_MODE, make_dirs, status_of, sync_dir, write_file

_TMP_SECONDS = 3600.0


class BlobRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """A blob's bytes had its digest when the file looked like this."""

    size: int
    mtime_ns: int
    fetched: bool = False
    """True when we brought it; False when we found it."""


class Identified(msgspec.Struct, frozen=True):
    """What an identity turned out to be."""

    digest: str


@dataclass(frozen=True, slots=True)
class Pool:
    """The blobs of one layout."""

    blobs: Path
    staging: Path
    records: Path

    def prepare(self) -> None:
        """Makes the folders, and clears away what killed writers left. Raises `OSError`."""
        for folder in (self.blobs, self.staging, self.records):
            make_dirs(folder)
        for left in self.staging.glob("*.tmp"):  # of writers that were killed; a live one needs milliseconds
            status = status_of(left)
            if status and time.time() - status.st_mtime > _TMP_SECONDS:
                if stat.S_ISDIR(status.st_mode):
                    shutil.rmtree(left, ignore_errors=True)
                else:
                    left.unlink(missing_ok=True)

    def blob_path(self, digest: str) -> Path:
        """Where the whole blob lies."""
        return self.blobs / digest.replace(":", "-")

    def partial_path(self, blob: Blob) -> Path:
        """Where the blob grows."""
        return self.staging / f"{blob.file_name}.part"

    def journal_path(self, blob: Blob) -> Path:
        """Which bytes of the partial blob are there."""
        return self.staging / f"{blob.file_name}.journal"

    def lock_path(self, blob: Blob) -> Path:
        """Who may write the partial blob."""
        return self.staging / f"{blob.file_name}.lock"

    def record_path(self, name: str) -> Path:
        """What is remembered of a digest or an identity."""
        return self.records / f"{name.replace(':', '-')}.json"

    def digest_of(self, blob: Blob) -> str:
        """The blob's digest: its own, or what its identity turned out to be; empty while unknown."""
        if blob.digest:
            return blob.digest
        try:
            return msgspec.json.decode(self.record_path(blob.file_name).read_bytes(), type=Identified).digest
        except (FileNotFoundError, msgspec.DecodeError):
            return ""

    def has(self, blob: Blob) -> bool:
        """A file of the right size is there; its bytes may still be wrong."""
        digest = self.digest_of(blob)
        status = status_of(self.blob_path(digest)) if digest else None
        return status is not None and stat.S_ISREG(status.st_mode) and status.st_size == blob.size

    def record_of(self, digest: str) -> BlobRecord | None:
        """What is remembered of a blob."""
        try:
            return msgspec.json.decode(self.record_path(digest).read_bytes(), type=BlobRecord)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def trusts(self, digest: str, size: int) -> bool:
        """The blob is there and was verified as it is."""
        status = status_of(self.blob_path(digest))
        if status is None or status.st_size != size:
            return False
        record = self.record_of(digest)
        return record is not None and (record.size, record.mtime_ns) == (status.st_size, status.st_mtime_ns)

    def record(self, digest: str, *, fetched: bool) -> None:
        """Remembers that the blob was verified as it is."""
        status = self.blob_path(digest).stat()
        record = BlobRecord(size=status.st_size, mtime_ns=status.st_mtime_ns, fetched=fetched)
        write_file(self.record_path(digest), msgspec.json.encode(record), self.staging)

    def adopt(self, blob: Blob, digest: str) -> None:
        """Moves a whole, verified and synced partial blob to its place."""
        staged, target = self.partial_path(blob), self.blob_path(digest)
        with suppress(PermissionError):  # begun by another user of the group; readable by all it is already
            os.chmod(staged, FILE_MODE)
        if not blob.digest:  # first, so that who is killed after the rename still finds what came of it
            write_file(self.record_path(blob.file_name), msgspec.json.encode(Identified(digest)), self.staging)
        os.rename(staged, target)
        sync_dir(target.parent)
        self.record(digest, fetched=True)

    def take_in(self, staged: Path, digest: str) -> None:
        """Moves a whole and synced file, which was hashed on its way, to its place."""
        os.chmod(staged, FILE_MODE)
        target = self.blob_path(digest)
        os.rename(staged, target)
        sync_dir(target.parent)
        self.record(digest, fetched=True)

    def forget(self, digest: str) -> None:
        """Removes a blob that we brought, and what is remembered of it."""
        self.blob_path(digest).unlink(missing_ok=True)
        self.record_path(digest).unlink(missing_ok=True)

    def discard_partial(self, blob: Blob) -> None:
        """Removes what is on its way of a blob; its lock is held."""
        self.journal_path(blob).unlink(missing_ok=True)
        self.partial_path(blob).unlink(missing_ok=True)
