"""What a store holds, who needs it, and what may go: reference counts over the ledgers.

Decided here: a model may go when it is named, or when it is not among those to keep; a blob, when no model that stays
needs it. Touched is only what our ledgers list and what pulls left half; a blob that somebody else brought, or that a
manifest of somebody else needs, stays. What pulls left half goes a day after its last byte: until then one may go on.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from pointsman.models.blob import digest_of
from pointsman.models.layouts.folder import FolderLayout, FolderRecord
from pointsman.models.layouts.ollama import ManifestRecord, OllamaLayout
from pointsman.models.pool import Identified, Pool
from pointsman.models.volume import read_file, status_of, sync_dir

GRACE_SECONDS = 86400.0
_DIGESTS = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A model that a ledger lists."""

    source: str
    digest: str
    pin: str = ""
    """Of a folder: what it was pulled with."""
    size: int = 0
    """Bytes of its blobs, shared ones included."""
    current: bool = True
    """Of Ollama's store: its friendly name still names it."""
    ledger: Path = field(default=Path(), compare=False)


@dataclass(slots=True)
class Rubbish:
    """What may go."""

    models: list[StoredModel] = field(default_factory=list)
    paths: list[Path] = field(default_factory=list)
    """Files, links and folders, in the order in which they may be removed."""
    freed: int = 0
    """Bytes."""

    def remove(self) -> None:
        """Removes all of it. What is seen goes before what it needs. Raises `OSError`."""
        for path in self.paths:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
            sync_dir(path.parent)


class Warehouse:
    """Both layouts of one store."""

    def __init__(self, root: Path) -> None:
        self._ollama = OllamaLayout(root)
        self._folders = FolderLayout(root)

    def models(self) -> list[StoredModel]:
        """All that the ledgers list, by source."""
        found = [*(m for m, _ in self._manifests()), *(m for m, _ in self._contents())]
        return sorted(found, key=lambda model: (model.source, model.digest, model.pin))

    def rubbish(self, goes: Callable[[StoredModel], bool], *, grace: float = GRACE_SECONDS) -> Rubbish:
        """What may go when the models that `goes` says go."""
        out = Rubbish()
        self._sort_folders(goes, out, grace)
        self._sort_ollama(goes, out, grace)
        return out

    def _sort_folders(self, goes: Callable[[StoredModel], bool], out: Rubbish, grace: float) -> None:
        folders = self._folders
        needed: set[str] = set()
        contents: set[str] = set()
        dropped: set[str] = set()
        for model, record in self._contents():
            if goes(model):
                out.models.append(model)
                out.paths += [folders.root / "pointsman" / "models" / model.ledger.stem, model.ledger]
                dropped |= {file.digest for file in record.files}
            else:
                needed |= {file.digest for file in record.files}
                contents.add(folders.content_path(record.content).name)
        for content in sorted((folders.root / "pointsman" / "content").glob("sha256-*")):
            if content.name not in contents:
                out.paths.append(content)
        self._sort_pool(folders.pool, needed, dropped, out, grace)

    def _sort_ollama(self, goes: Callable[[StoredModel], bool], out: Rubbish, grace: float) -> None:
        needed: set[str] = set()
        dropped: set[str] = set()
        gone: set[Path] = set()
        for model, record in self._manifests():
            names = [self._ollama.manifest_path(name) for name in record.names]
            mine = [path for path in names if _digest_at(path) == record.digest]
            if goes(model):
                out.models.append(model)
                out.paths += [*mine, model.ledger]
                gone |= set(mine)
                dropped |= set(record.blobs)
            else:
                needed |= set(record.blobs)
        for path in (self._ollama.root / "manifests").rglob("*"):  # also those that others wrote
            if path.is_file() and path not in gone:
                needed |= set(_DIGESTS.findall((read_file(path) or b"").decode(errors="replace")))
        self._sort_pool(self._ollama.pool, needed, dropped, out, grace)

    def _sort_pool(self, pool: Pool, needed: set[str], dropped: set[str], out: Rubbish, grace: float) -> None:
        goes: set[str] = set()
        for path in sorted(pool.blobs.glob("sha256-*")):
            digest = path.name.replace("-", ":", 1)
            record, status = pool.record_of(digest), status_of(path)
            if digest in needed or status is None or record is None or not record.fetched:
                continue
            if digest in dropped or _old(status, grace):
                out.paths += [path, pool.record_path(digest)]
                out.freed += status.st_blocks * 512
                goes.add(digest)
        for path in sorted(pool.records.glob("id-*.json")):
            if msgspec.json.decode(path.read_bytes(), type=Identified).digest in goes:
                out.paths.append(path)
        for path in sorted(pool.staging.glob("*")) if pool.staging.is_dir() else ():
            status = path.lstat()
            if path.suffix in (".part", ".journal", ".lock") and _old(status, grace):
                out.paths.append(path)
                out.freed += status.st_blocks * 512

    def _contents(self) -> Iterator[tuple[StoredModel, FolderRecord]]:
        for path in sorted(self._folders.ledger.glob("*.json")):
            try:
                record = msgspec.json.decode(path.read_bytes(), type=FolderRecord)
            except msgspec.DecodeError:
                continue
            size = sum(file.size for file in record.files)
            yield StoredModel(record.source, record.digest, record.pin, size, ledger=path), record

    def _manifests(self) -> Iterator[tuple[StoredModel, ManifestRecord]]:
        for path in sorted(self._ollama.ledger.glob("*.json")):
            try:
                record = msgspec.json.decode(path.read_bytes(), type=ManifestRecord)
            except msgspec.DecodeError:
                continue
            sizes = (status_of(self._ollama.pool.blob_path(blob)) for blob in record.blobs)
            size = sum(status.st_size for status in sizes if status)
            friendly = [name for name in record.names if "/pointsman/" not in name]
            current = any(_digest_at(self._ollama.manifest_path(name)) == record.digest for name in friendly)
            yield StoredModel(record.source, record.digest, record.digest, size, current, path), record


def unneeded(keep: list[tuple[str, str]]) -> Callable[[StoredModel], bool]:
    """Goes what is not kept: `keep` holds (source, pin), the pin empty where there is none. Of a source without a pin
    the newest content is kept."""

    def goes(model: StoredModel) -> bool:
        if model.source.startswith("ollama"):
            pinned = any(pin == model.digest for _, pin in keep)
            return not (pinned or (model.current and (model.source, "") in keep))
        return (model.source, model.pin) not in keep

    return goes


def named(source: str, pin: str) -> Callable[[StoredModel], bool]:
    """Goes what was pulled from this source, with this pin if one is given."""
    return lambda model: model.source == source and pin in ("", model.pin)


def _digest_at(path: Path) -> str:
    raw = read_file(path)
    return digest_of(raw) if raw is not None else ""


def _old(status: os.stat_result, grace: float) -> bool:
    return time.time() - status.st_mtime >= grace
