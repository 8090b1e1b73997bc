"""The files of an archive into a pool: what layers of images and packed models need.

Only regular files are taken, at paths that stay in their folder; links and devices are left out. Each file is hashed
while it is written, so it ends as a blob like any other.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from pointsman.models.blob import Listed
from pointsman.models.choosing import is_safe
from pointsman.models.errors import PullError, PullReason
from pointsman.models.pool import Pool
from pointsman.models.volume import free_bytes

_STEP = 16 << 20
_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"


def unpack(archive: Path, pool: Pool, name: str) -> Iterator[Listed | str | None]:
    """A file that is there now; the path of one that a layer takes away again (a folder's ends with `/`); None in
    between: each step is short. Raises `PullError`, `OSError`."""
    try:
        with tarfile.open(archive, "r|*") as opened:
            for member in opened:
                path = os.path.normpath(member.name).lstrip("/")
                base = path.rpartition("/")[2]
                if base == _OPAQUE:
                    yield path.removesuffix(_OPAQUE)
                elif base.startswith(_WHITEOUT):
                    yield path.removesuffix(base) + base.removeprefix(_WHITEOUT)
                elif member.isfile():
                    if not is_safe(path):
                        raise PullError(
                            PullReason.NOT_A_MODEL, f"{name} holds a file outside its folder; do not use it."
                        )
                    yield from _taken(opened, member, path, pool)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise PullError(
            PullReason.NOT_A_MODEL, f"{name} cannot be unpacked ({type(error).__name__}); push it anew."
        ) from None


def _taken(opened: tarfile.TarFile, member: tarfile.TarInfo, path: str, pool: Pool) -> Iterator[Listed | None]:
    if member.size > free_bytes(pool.staging):
        raise PullError(
            PullReason.DISK_FULL,
            f"Unpacking {path} needs {member.size / 1e6:,.0f} MB; make the volume larger or remove models.",
        )
    source = opened.extractfile(member)
    assert source is not None
    digest = hashlib.sha256()
    staged = pool.staging / f"{secrets.token_hex(8)}.tmp"
    try:
        with staged.open("xb") as file:
            while data := source.read(_STEP):
                digest.update(data)
                file.write(data)
                yield None
            file.flush()
            os.fsync(file.fileno())
        found = "sha256:" + digest.hexdigest()
        pool.take_in(staged, found)
    finally:
        staged.unlink(missing_ok=True)
    yield Listed(path, member.size, found)
