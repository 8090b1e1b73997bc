"""What a pull does for one kind of model, so that the steps around it are the same for all: one file beside this one
for Ollama's store (`ollama_errand.py`) and one for folders (`folder_errand.py`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from pointsman.models.blob import Blob
from pointsman.models.origin import Bytes
from pointsman.models.pool import Pool


@dataclass(frozen=True, slots=True)
class Goal:
    """What shall be there in the end."""

    blobs: tuple[Blob, ...]
    """Each once."""
    digest: str = ""
    """The model's; empty while it is not known before the bytes are here."""

    @property
    def total_bytes(self) -> int:
        """The size of all blobs."""
        return sum(blob.size for blob in self.blobs)


@dataclass(frozen=True, slots=True)
class Published:
    """A model that is visible in a store."""

    digest: str
    total_bytes: int
    short_name: str = ""
    served_name: str = ""
    """What to send to Ollama for exactly this digest."""
    path: str = ""
    """What a server that reads files loads, relative to the store."""


class Errand(Protocol):
    """One model into one store. `find` and `publish` are blocking."""

    @property
    def pool(self) -> Pool:
        """Where its blobs go."""
        ...

    @property
    def bytes(self) -> Bytes:
        """Where they come from."""
        ...

    def prepare(self) -> None:
        """Makes the folders. Raises `OSError`."""
        ...

    def find(self) -> Published | None:
        """The model, when it is here whole and the source need not be asked."""
        ...

    async def resolve(self) -> Goal:
        """Asks the source. Raises `PullError`."""
        ...

    async def arrange(self, digests: Mapping[str, str]) -> None:
        """Whatever takes long between the blobs' arrival and their publication. Raises `PullError`, `OSError`."""
        ...

    def publish(self, digests: Mapping[str, str], at: float) -> Published:
        """Makes the resolved model visible. `digests` has the digest of each blob by its `file_name`; `at` is Unix
        seconds. Raises `PullError`, `OSError`."""
        ...
