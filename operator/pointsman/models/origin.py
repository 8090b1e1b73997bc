"""What a pull asks of a source: one small protocol, one file beneath `sources/` for each scheme.

An origin is opened for one source. It says what the source holds now (`resolve`), and then gives any range of any blob
(`open`). One request at a time and no retries: which failures pass by themselves is said by the type `PassingFailure`,
and how often they are tried again is decided by the caller.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from pointsman.models.blob import Blob, File
from pointsman.models.errors import PullError, PullReason


class PassingFailure(PullError):
    """A failure that may pass by itself within seconds: no connection, 5xx, 429."""

    def __init__(self, reason: PullReason, message: str, retry_after: float | None = None) -> None:
        super().__init__(reason, message)
        self.retry_after = retry_after
        """Seconds that the server asked to wait."""


@dataclass(frozen=True, slots=True)
class BlobStream:
    """An answer that holds bytes of a blob."""

    start: int
    """Position in the blob of the first byte that comes; below the position asked for when ranges are ignored."""
    ranged: bool
    """False when the whole blob comes, whatever was asked for."""
    chunks: AsyncIterator[bytes]
    """Raises `PassingFailure` when the connection breaks or goes silent."""


class Bytes(Protocol):
    """Gives blobs by range."""

    def open(self, blob: Blob, start: int, end: int) -> AbstractAsyncContextManager[BlobStream]:
        """Opens bytes `start` (included) to `end` (excluded) of a blob. Raises `PullError`."""
        ...


class FolderOrigin(Bytes, Protocol):
    """A source whose model is files in a folder."""

    async def resolve(self) -> Resolved:
        """What the source holds now. Raises `PullError`."""
        ...


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a source held at one moment, in a form that cannot change."""

    files: tuple[File, ...]
    digest: str = ""
    """The model's digest where the source has one of its own (OCI's manifest)."""
    single: bool = False
    """The model is one file: its digest is that file's."""

    @property
    def blobs(self) -> tuple[Blob, ...]:
        """The files' blobs, each once."""
        return tuple({file.blob.file_name: file.blob for file in self.files}.values())
