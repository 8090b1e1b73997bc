"""A model that is in a volume already. Pure.

    pvc://claim/path/to/folder
    pvc://claim/path/to/model.gguf

Nothing is fetched and nothing is written: pods mount the claim of their namespace read-only at `/claims/<claim>`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pointsman.api.sources.error import SourceError

SCHEME = "pvc://"
CLAIMS_PATH = "/claims"
"""Where pods mount claims, each under its name."""

_CLAIM = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_PATH = re.compile(r"[A-Za-z0-9_.+=,@-]+(/[A-Za-z0-9_.+=,@-]+)*")


@dataclass(frozen=True, slots=True)
class PvcSource:
    """A folder or a file of a claim."""

    claim: str
    path: str
    """Relative to the volume."""

    def __str__(self) -> str:
        return f"{SCHEME}{self.claim}/{self.path}"


def parse_pvc(source: str) -> PvcSource:
    """Raises `SourceError`."""
    claim, _, path = source.removeprefix(SCHEME).partition("/")
    path = path.removesuffix("/")
    if not _CLAIM.fullmatch(claim):
        raise SourceError(f"{claim!r} in {source!r} is not a name of a PersistentVolumeClaim")
    if not _PATH.fullmatch(path) or any(p in (".", "..") for p in path.split("/")):
        raise SourceError(f"{source!r} is not pvc://claim/path/to/model")
    return PvcSource(claim, path)
