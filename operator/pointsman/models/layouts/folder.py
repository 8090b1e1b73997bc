"""Models as folders, for engines that read files: where they lie, how they become visible, what we remember.

    pointsman/models/<16 hex>                a link to the content: what servers open (`api/sources/place.py`)
    pointsman/content/sha256-<hex>/<path>    a model's files: links to blobs; the name is the folder's digest
    pointsman/blobs/sha256-<hex>             a file's bytes, whole and verified
    .pointsman/folders/staging/              what is on its way
    .pointsman/folders/blobs/                what was verified, and who brought it
    .pointsman/folders/models/<16 hex>.json  the ledger: source, pin, files

Two revisions, or two models, share the blobs that they have in common. All links are relative and stay below
`pointsman/`: wherever the volume is mounted whole, also read-only, they can be followed.

Invariants:
- A content folder is built in staging and renamed: it is never seen half. It comes after its blobs, and the link of
  `models/` after it; that link is replaced by a rename, so it names the old content or the new.
- Garbage collection may touch only what the ledger lists.
"""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path, PurePosixPath

import msgspec

from pointsman.api.sources.place import ONLY_GGUF, folder
from pointsman.api.sources.source import Source
from pointsman.models.blob import Listed, folder_digest
from pointsman.models.pool import Pool
from pointsman.models.volume import make_dirs, sync_dir, write_file


class FolderRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What we wrote for one (source, pin)."""

    source: str
    pin: str
    digest: str
    """As it was told: of the one file, of the manifest, or of the folder."""
    content: str
    """`sha256:…` of the canonical listing: the name of the content folder."""
    files: tuple[Listed, ...]
    at: float
    """Unix seconds of the last pull."""

    @property
    def total_bytes(self) -> int:
        """The size of all files."""
        return sum(file.size for file in self.files)


class FolderLayout:
    """The folders below one store."""

    def __init__(self, root: Path) -> None:
        own = root / ".pointsman" / "folders"
        self.root = root
        self.pool = Pool(root / "pointsman" / "blobs", own / "staging", own / "blobs")
        self.ledger = own / "models"

    def prepare(self) -> None:
        """Makes the folders. Raises `OSError`."""
        self.pool.prepare()
        for path in (self.root / "pointsman" / "content", self.root / "pointsman" / "models", self.ledger):
            make_dirs(path)

    def content_path(self, content: str) -> Path:
        """Where the content of this digest lies."""
        return self.root / "pointsman" / "content" / content.replace(":", "-")

    def link_path(self, source: Source, pin: str | None) -> Path:
        """What a server opens."""
        return self.root / folder(source, pin)

    def record_path(self, source: Source, pin: str | None) -> Path:
        """The ledger's entry."""
        return self.ledger / f"{self.link_path(source, pin).name}.json"

    def find(self, source: Source, pin: str | None) -> FolderRecord | None:
        """What the ledger says of a model that is published and whole; else None."""
        try:
            record = msgspec.json.decode(self.record_path(source, pin).read_bytes(), type=FolderRecord)
        except (FileNotFoundError, msgspec.DecodeError):
            return None
        link, content = self.link_path(source, pin), self.content_path(record.content)
        if _target(link) != _relative(content, link) or not self._complete(content, record.files):
            return None
        return record if all(self.pool.trusts(file.digest, file.size) for file in record.files) else None

    def publish(
        self, source: Source, pin: str | None, digest: str, files: tuple[Listed, ...], at: float
    ) -> FolderRecord:
        """Makes the model visible: the content, then the ledger, then the link. Raises `OSError`."""
        content = folder_digest(files)
        record = FolderRecord(
            source=str(source), pin=pin or "", digest=digest or content, content=content, files=files, at=at
        )
        self._build(self.content_path(content), files)
        write_file(self.record_path(source, pin), msgspec.json.encode(record), self.pool.staging)
        link = self.link_path(source, pin)
        target = _relative(self.content_path(content), link)
        if _target(link) != target:
            staged = self.pool.staging / f"{secrets.token_hex(8)}.tmp"
            staged.symlink_to(target)
            os.rename(staged, link)
            sync_dir(link.parent)
        return record

    def _build(self, content: Path, files: tuple[Listed, ...]) -> None:
        if self._complete(content, files):
            return
        staged = self.pool.staging / f"{secrets.token_hex(8)}.tmp"
        folders = {staged}
        for file in files:
            path = staged / file.path
            make_dirs(path.parent)
            folders.add(path.parent)
            # Links are made for where the folder will be, not for where it is built.
            path.symlink_to(_relative(self.pool.blob_path(file.digest), content / file.path))
        ggufs = [file.path for file in files if file.path.endswith(".gguf")]
        if len(ggufs) == 1 and ggufs[0] != ONLY_GGUF:
            (staged / ONLY_GGUF).symlink_to(ggufs[0])
        for path in folders:
            sync_dir(path)
        if content.is_symlink() or content.exists():  # somebody's hand was in it: out of the way, then gone
            broken = self.pool.staging / f"{secrets.token_hex(8)}.tmp"
            os.rename(content, broken)
            os.rename(staged, content)
            shutil.rmtree(broken, ignore_errors=True)
        else:
            try:
                os.rename(staged, content)
            except OSError:
                if not self._complete(content, files):
                    raise
                shutil.rmtree(staged, ignore_errors=True)  # another pull of the same content was faster
        sync_dir(content.parent)

    def _complete(self, content: Path, files: tuple[Listed, ...]) -> bool:
        """Each file is the link that it should be."""
        return content.is_dir() and all(
            _target(content / file.path) == _relative(self.pool.blob_path(file.digest), content / file.path)
            for file in files
        )


def _relative(target: Path, link: Path) -> str:
    return PurePosixPath(os.path.relpath(target, link.parent)).as_posix()


def _target(link: Path) -> str | None:
    try:
        return os.readlink(link)
    except OSError:
        return None
