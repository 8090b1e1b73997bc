"""Ollama's store: where things lie, how a model becomes visible, and what we remember about it.

    manifests/<host>/<namespace>/<name>/<tag>    the manifest, as served
    blobs/sha256-<hex>                           a blob, whole and verified
    .pointsman/staging/                          what is on its way
    .pointsman/blobs/                            what was verified, and who brought it
    .pointsman/manifests/sha256-<hex>.json       the ledger: names we wrote, blobs they need

Invariants:
- Blobs come before the manifest that names them. A running Ollama sees a new manifest at once.
- Staging lies outside `blobs/`: an Ollama that starts with pruning on deletes what it does not know there.
- Garbage collection may touch only what the ledger lists.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from pointsman.api.sources.ollama import OllamaSource, served_path_parts
from pointsman.models.errors import PullError
from pointsman.models.manifest import Manifest, read_manifest
from pointsman.models.pool import Pool
from pointsman.models.volume import make_dirs, read_file, write_file


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


class OllamaLayout:
    """The store below one folder (what `OLLAMA_MODELS` names)."""

    def __init__(self, root: Path) -> None:
        own = root / ".pointsman"
        self.root = root
        self.pool = Pool(root / "blobs", own / "staging", own / "blobs")
        self.ledger = own / "manifests"

    def prepare(self) -> None:
        """Makes the folders. Raises `OSError`."""
        self.pool.prepare()
        make_dirs(self.root / "manifests")
        make_dirs(self.ledger)

    def manifest_path(self, name: str) -> Path:
        """Where a manifest lies; `name` as in `ManifestRecord.names`."""
        return self.root / "manifests" / name

    def find(self, parts: tuple[str, ...]) -> Manifest | None:
        """The manifest of this name if it, and every blob it names, is here and trusted."""
        try:
            manifest = read_manifest(self.manifest_path("/".join(parts)).read_bytes())
        except (FileNotFoundError, PullError):
            return None
        return manifest if all(self.pool.trusts(blob.digest, blob.size) for blob in manifest.blobs) else None

    def publish(self, source: OllamaSource, manifest: Manifest, at: float) -> None:
        """Makes the model visible: the ledger first, then the digest-derived name, then the friendly one.

        `at` is Unix seconds.
        """
        paths = (served_path_parts(source, manifest.digest), source.path_parts)
        names = tuple("/".join(parts) for parts in paths)
        self._record(source, manifest, names, at)
        for name in names:
            path = self.manifest_path(name)
            make_dirs(path.parent)
            if read_file(path) != manifest.raw:
                write_file(path, manifest.raw, self.pool.staging)

    def _record(self, source: OllamaSource, manifest: Manifest, names: tuple[str, ...], at: float) -> None:
        path = self.ledger / f"{manifest.digest.replace(':', '-')}.json"
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
        write_file(path, msgspec.json.encode(record), self.pool.staging)
