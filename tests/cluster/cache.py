"""Where built things and cluster state live, and how a folder there comes to be whole or not at all.

Everything is outside the checkout, so that a fresh clone, another branch or a CI cache finds it again.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def root() -> Path:
    """The cache folder: ``$POINTSMAN_CACHE``, else ``pointsman`` in the user's cache folder (XDG)."""
    given = os.environ.get("POINTSMAN_CACHE")
    if given:
        return Path(given).resolve()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").resolve() / "pointsman"


def digest(*parts: str | bytes) -> str:
    """16 hex digits over the parts; each part is length-prefixed, so that a moved boundary is another key."""
    whole = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        whole.update(len(data).to_bytes(8, "big"))
        whole.update(data)
    return whole.hexdigest()[:16]


def digest_of_tree(*paths: Path) -> str:
    """A key over file names, modes and contents below the paths; compiled Python is not content."""
    parts: list[str | bytes] = []
    for path in paths:
        files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
        for file in files:
            if file.suffix == ".pyc" or "__pycache__" in file.parts:
                continue
            parts += [str(file.relative_to(path.parent)), oct(file.stat().st_mode & 0o111), file.read_bytes()]
    return digest(*parts)


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the machine-wide lock of this name; a second builder waits instead of building the same thing.

    The kernel drops the lock with the process, so a killed builder leaves nothing to clean.
    """
    path = root() / "locks" / f"{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextmanager
def made_whole(target: Path) -> Iterator[Path]:
    """Give a fresh folder beside ``target`` to fill; it takes the target's name only when the block succeeded."""
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f"{target.name}.new-{os.getpid()}")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    try:
        yield fresh
        if target.exists():
            shutil.rmtree(target)
        fresh.rename(target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
