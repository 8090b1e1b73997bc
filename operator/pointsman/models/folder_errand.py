"""A model of any source of files into a folder of the store.

Decided here: what the digest of such a model is. One file: that file's sha256. A source with a digest of its own (OCI's
manifest): that. Everything else: the digest of the folder (`blob.folder_digest`).
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from pointsman.api.sources.oci import OciSource
from pointsman.api.sources.place import path
from pointsman.api.sources.source import Source
from pointsman.models.blob import File, Listed, folder_digest
from pointsman.models.errand import Goal, Published
from pointsman.models.errors import PullError, PullReason
from pointsman.models.layouts.folder import FolderLayout, FolderRecord
from pointsman.models.model_check import check_model
from pointsman.models.origin import FolderOrigin, Resolved
from pointsman.models.retry import Clockwork, RetryPolicy, persist
from pointsman.models.threads import in_thread
from pointsman.models.unpack import unpack

_END = object()
_IMAGE_MODELS = "models/"
"""Where images that carry models (KServe's modelcars) have them."""


class FolderErrand:
    """`Errand` of all sources but `ollama://`."""

    def __init__(
        self,
        source: Source,
        pin: str | None,
        layout: FolderLayout,
        origin: FolderOrigin,
        policy: RetryPolicy,
        clockwork: Clockwork,
        *,
        never_refresh: bool = False,
        verify: bool = False,
    ) -> None:
        self.pool = layout.pool
        self.bytes = origin
        self._source = source
        self._pin = pin
        self._layout = layout
        self._origin = origin
        self._policy = policy
        self._clockwork = clockwork
        self._never_refresh = never_refresh
        self._verify = verify
        self._resolved = Resolved(())
        self._kept: FolderRecord | None = None
        self._unpacked: dict[str, Listed] = {}

    def prepare(self) -> None:
        self._layout.prepare()

    def find(self) -> Published | None:
        if not (self._pin or self._never_refresh):
            return None
        record = self._layout.find(self._source, self._pin)
        return self._published(record) if record else None

    async def resolve(self) -> Goal:
        resolved = await persist(self._origin.resolve, self._policy, self._clockwork)
        if self._pin and resolved.single and not resolved.files[0].blob.digest:
            (file,) = resolved.files  # the pin says what the source does not
            blob = msgspec.structs.replace(file.blob, digest=self._pin, pinned=True)
            resolved = Resolved((File(file.path, blob),), single=True)
        self._resolved = resolved
        if resolved.digest and not self._verify:  # archives are not kept, so blobs cannot tell that all is here
            record = self._layout.find(self._source, self._pin)
            if record and record.digest == resolved.digest:
                self._kept = record
                return Goal((), resolved.digest)
        digest = self._digest({file.blob.file_name: file.blob.digest for file in resolved.files})
        self._check_pin(digest)
        return Goal(resolved.blobs, digest)

    async def arrange(self, digests: Mapping[str, str]) -> None:
        """Unpacks archives, in the order of the layers: what a later one brings or takes away counts."""
        for file in self._resolved.files:
            if not file.unpack or self._kept:
                continue
            steps = unpack(self.pool.blob_path(file.blob.digest), self.pool, str(self._source))
            while (step := await in_thread(next, steps, _END)) is not _END:
                if isinstance(step, Listed):
                    self._unpacked[step.path] = step
                elif isinstance(step, str):
                    gone = [path for path in self._unpacked if path == step or path.startswith(step.rstrip("/") + "/")]
                    for path in gone:
                        del self._unpacked[path]

    def publish(self, digests: Mapping[str, str], at: float) -> Published:
        if self._kept:
            return self._published(self._kept)
        digest = self._digest(digests)
        self._check_pin(digest)
        files = self._listed(digests)
        if isinstance(self._source, OciSource) and not _has(files, self._source.path):
            raise PullError(
                PullReason.NOT_A_MODEL, f"{self._source}: there is no {self._source.path} in it; check the path."
            )
        for file in files:
            check_model(self.pool.blob_path(file.digest), file.path)
        record = self._layout.publish(self._source, self._pin, digest, files, at)
        for archive in {file.blob.digest for file in self._resolved.files if file.unpack}:
            self.pool.forget(archive)
        return self._published(record)

    def _listed(self, digests: Mapping[str, str]) -> tuple[Listed, ...]:
        """The model's files, sorted. Of an image only what is below `models/`, where it has that."""
        plain = [file for file in self._resolved.files if not file.unpack]
        found = {f.path: Listed(f.path, f.blob.size, digests[f.blob.file_name]) for f in plain}
        unpacked = list(self._unpacked.values())
        if any(file.path.startswith(_IMAGE_MODELS) for file in unpacked):
            kept = [file for file in unpacked if file.path.startswith(_IMAGE_MODELS)]
            unpacked = [msgspec.structs.replace(f, path=f.path.removeprefix(_IMAGE_MODELS)) for f in kept]
        found |= {file.path: file for file in unpacked}
        return tuple(found[path] for path in sorted(found))

    def _digest(self, digests: Mapping[str, str]) -> str:
        """The model's digest; empty while one of its files' is."""
        if self._resolved.digest:
            return self._resolved.digest
        if not all(digests.values()):
            return ""
        files = self._listed(digests)
        return files[0].digest if self._resolved.single else folder_digest(files)

    def _check_pin(self, digest: str) -> None:
        if self._pin and digest and digest != self._pin:
            raise PullError(
                PullReason.DIGEST_MISMATCH,
                f"{self._source} is {digest} now, not the pinned {self._pin}; change the pin.",
            )

    def _published(self, record: FolderRecord) -> Published:
        return Published(digest=record.digest, total_bytes=record.total_bytes, path=path(self._source, self._pin))


def _has(files: tuple[Listed, ...], path: str) -> bool:
    """Is there a file or a folder at this path?"""
    return not path or any(f"{file.path}/".startswith(f"{path}/") for file in files)
