"""Ollama's store on a volume: where things lie, how they get there, and what we remember about them.

    manifests/<host>/<namespace>/<name>/<tag>    the manifest, as served
    blobs/sha256-<hex>                           a blob, whole and verified
    .pointsman/staging/                          what is on its way: partial blobs, their journals and locks
    .pointsman/blobs/sha256-<hex>.json           this blob was verified, and who brought it
    .pointsman/manifests/sha256-<hex>.json       the ledger: names we wrote, blobs they need

Invariants:
- What stands under `blobs/` and `manifests/` is whole at every moment: written elsewhere, synced, renamed, and the
  folder synced. Blobs come before the manifest that names them. A running Ollama sees a new manifest at once.
- Staging lies outside `blobs/`: an Ollama that starts with pruning on deletes what it does not know there.
- Modes do not depend on the umask: files are readable by all (0644), folders and staging writable by the group, so that
  pods under other users, with the volume's fsGroup, can go on; a folder's setgid bit is kept.
- Garbage collection may touch only what the ledger lists, and of blobs only those with `fetched`.

A blob is trusted without reading it when its record has its size and modification time; otherwise it is hashed again.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from pointsman.api.sources.ollama import OllamaSource, served_path_parts
from pointsman.models.errors import PullError, PullReason
from pointsman.models.manifest import Descriptor, Manifest, read_manifest

DIR_MODE = 0o775
FILE_MODE = 0o644
STAGING_FILE_MODE = 0o664
_TMP_SECONDS = 3600.0


class BlobRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """A blob's bytes had its digest when the file looked like this."""

    size: int
    mtime_ns: int
    fetched: bool = False
    """True when we brought it; False when we found it."""


class ManifestRecord(msgspec.Struct, frozen=True):
    """What we wrote for one manifest."""

    digest: str
    source: str
    names: tuple[str, ...]
    """Paths below `manifests/`."""
    blobs: tuple[str, ...]
    """Digests."""
    at: float
    """Unix seconds of the last pull."""


@dataclass(frozen=True, slots=True)
class Store:
    """The store below one folder (what `OLLAMA_MODELS` names)."""

    root: Path

    @property
    def staging(self) -> Path:
        """The folder of what is on its way."""
        return self.root / ".pointsman" / "staging"

    def prepare(self) -> None:
        """Makes the folders, and clears away what killed writers left. Raises `OSError`."""
        for name in ("blobs", "manifests", ".pointsman/staging", ".pointsman/blobs", ".pointsman/manifests"):
            make_dirs(self.root / name)
        for left in self.staging.glob("*.tmp"):  # of writers that were killed; a live one needs milliseconds
            status = _stat(left)
            if status and time.time() - status.st_mtime > _TMP_SECONDS:
                left.unlink(missing_ok=True)

    def blob_path(self, blob: Descriptor) -> Path:
        """Where the whole blob lies."""
        return self.root / "blobs" / blob.file_name

    def partial_path(self, blob: Descriptor) -> Path:
        """Where the blob grows."""
        return self.staging / f"{blob.file_name}.part"

    def journal_path(self, blob: Descriptor) -> Path:
        """Which bytes of the partial blob are there."""
        return self.staging / f"{blob.file_name}.journal"

    def lock_path(self, blob: Descriptor) -> Path:
        """Who may write the partial blob."""
        return self.staging / f"{blob.file_name}.lock"

    def _blob_record_path(self, blob: Descriptor) -> Path:
        return self.root / ".pointsman" / "blobs" / f"{blob.file_name}.json"

    def _manifest_record_path(self, digest: str) -> Path:
        return self.root / ".pointsman" / "manifests" / f"{digest.replace(':', '-')}.json"

    def has_blob(self, blob: Descriptor) -> bool:
        """A file of the right size is there; its bytes may still be wrong."""
        status = _stat(self.blob_path(blob))
        return status is not None and stat.S_ISREG(status.st_mode) and status.st_size == blob.size

    def trusts_blob(self, blob: Descriptor) -> bool:
        """The blob is there and was verified as it is."""
        status = _stat(self.blob_path(blob))
        if status is None or status.st_size != blob.size:
            return False
        try:
            record = msgspec.json.decode(self._blob_record_path(blob).read_bytes(), type=BlobRecord)
        except (FileNotFoundError, msgspec.DecodeError):
            return False
        return (record.size, record.mtime_ns) == (status.st_size, status.st_mtime_ns)

    def record_blob(self, blob: Descriptor, *, fetched: bool) -> None:
        """Remembers that the blob was verified as it is."""
        status = self.blob_path(blob).stat()
        record = BlobRecord(size=status.st_size, mtime_ns=status.st_mtime_ns, fetched=fetched)
        self._write(self._blob_record_path(blob), msgspec.json.encode(record))

    def adopt_blob(self, staged: Path, blob: Descriptor) -> None:
        """Moves a whole, verified and synced file to its place."""
        with suppress(PermissionError):  # begun by another user of the group; readable by all it is already
            os.chmod(staged, FILE_MODE)
        target = self.blob_path(blob)
        os.rename(staged, target)
        sync_dir(target.parent)
        self.record_blob(blob, fetched=True)

    def discard_partial(self, blob: Descriptor) -> None:
        """Removes what is on its way of a blob; its lock is held."""
        self.journal_path(blob).unlink(missing_ok=True)
        self.partial_path(blob).unlink(missing_ok=True)

    def pinned_manifest(self, source: OllamaSource, digest: str) -> Manifest | None:
        """The manifest of this digest if it, and every blob it names, is here and trusted."""
        path = self.root.joinpath("manifests", *served_path_parts(source, digest))
        try:
            manifest = read_manifest(path.read_bytes())
        except (FileNotFoundError, PullError):
            return None
        if manifest.digest != digest or not all(self.trusts_blob(blob) for blob in manifest.blobs):
            return None
        return manifest

    def publish(self, source: OllamaSource, manifest: Manifest, at: float) -> None:
        """Makes the model visible: the ledger first, then the digest-derived name, then the friendly one.

        `at` is Unix seconds.
        """
        paths = (served_path_parts(source, manifest.digest), source.path_parts)
        self._record_manifest(source, manifest, tuple("/".join(parts) for parts in paths), at)
        for parts in paths:
            path = self.root.joinpath("manifests", *parts)
            make_dirs(path.parent)
            if _read(path) != manifest.raw:
                self._write(path, manifest.raw)

    def _record_manifest(self, source: OllamaSource, manifest: Manifest, names: tuple[str, ...], at: float) -> None:
        path = self._manifest_record_path(manifest.digest)
        try:
            before = msgspec.json.decode(path.read_bytes(), type=ManifestRecord).names
        except (FileNotFoundError, msgspec.DecodeError):
            before = ()
        record = ManifestRecord(
            digest=manifest.digest,
            source=str(source),
            names=tuple(dict.fromkeys((*before, *names))),
            blobs=tuple(blob.digest for blob in manifest.blobs),
            at=at,
        )
        self._write(path, msgspec.json.encode(record))

    def _write(self, path: Path, data: bytes) -> None:
        """Replaces a small file, whole or not at all."""
        staged = self.staging / f"{secrets.token_hex(8)}.tmp"
        try:
            descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
            with open(descriptor, "wb") as file:
                os.fchmod(descriptor, FILE_MODE)
                file.write(data)
                file.flush()
                os.fsync(descriptor)
            os.rename(staged, path)
        except OSError:
            staged.unlink(missing_ok=True)
            raise
        sync_dir(path.parent)

    def free_bytes(self) -> int:
        """What an ordinary user can still write."""
        status = os.statvfs(self.root)
        return status.f_bavail * status.f_frsize


def make_dirs(path: Path) -> None:
    """Makes a folder and those above it, group-writable, each synced into the one above. Raises `OSError`."""
    if path.is_dir():
        return
    make_dirs(path.parent)
    try:
        path.mkdir()
    except FileExistsError:
        return
    os.chmod(path, stat.S_IMODE(path.stat().st_mode) | DIR_MODE)
    sync_dir(path.parent)


def sync_dir(path: Path) -> None:
    """Makes renames and new names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems cannot, and need not
            raise
    finally:
        os.close(descriptor)


def store_failure(error: OSError, root: Path) -> PullError:
    """What a failed file operation means to the user."""
    what = os.strerror(error.errno) if error.errno else type(error).__name__
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return PullError(
            PullReason.DISK_FULL,
            f"The volume at {root} ran full during the pull ({what}); make it larger or remove models.",
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR):
        return PullError(
            PullReason.STORE_UNWRITABLE,
            f"Cannot write to the volume at {root} ({what}); check its mount and fsGroup.",
        )
    return PullError(
        PullReason.STORE_FAILED, f"The volume at {root} failed ({what}); look at the storage and the node's log."
    )


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
