"""Files on a volume that other pods use at the same time: how they get there, and what a failure means.

Invariants:
- What is written is whole at every moment: written elsewhere, synced, renamed, and the folder synced.
- Modes do not depend on the umask: files are readable by all (0644), folders and staging writable by the group, so that
  pods under other users, with the volume's fsGroup, can go on; a folder's setgid bit is kept.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from pathlib import Path

from pointsman.models.errors import PullError, PullReason

DIR_MODE = 0o775
FILE_MODE = 0o644
STAGING_FILE_MODE = 0o664


def write_file(path: Path, data: bytes, staging: Path) -> None:
    """Replaces a small file, whole or not at all. Raises `OSError`."""
    staged = staging / f"{secrets.token_hex(8)}.tmp"
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


def free_bytes(root: Path) -> int:
    """What an ordinary user can still write on the volume."""
    status = os.statvfs(root)
    return status.f_bavail * status.f_frsize


def status_of(path: Path) -> os.stat_result | None:
    """None when nothing is there."""
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None


def read_file(path: Path) -> bytes | None:
    """None when nothing is there."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


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
