"""Who uses a store right now: pulls, any number at once, or a clean-up, alone.

A pull's blobs are in the store before the ledger says what they are for; a clean-up that looked in between would take
them for garbage. So pulls hold a shared lock, and a clean-up the exclusive one. The kernel frees it with its process.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pointsman.models.errors import PullError, PullReason
from pointsman.models.volume import STAGING_FILE_MODE, make_dirs


@contextmanager
def pulling(root: Path) -> Iterator[None]:
    """Held while a pull runs. A clean-up takes seconds: it is waited for. Raises `OSError`."""
    with _locked(root, fcntl.LOCK_SH):
        yield


@contextmanager
def cleaning(root: Path) -> Iterator[None]:
    """Held while a store is cleaned. Raises `PullError` (StoreFailed) while somebody pulls, `OSError`."""
    try:
        with _locked(root, fcntl.LOCK_EX | fcntl.LOCK_NB):
            yield
    except BlockingIOError:
        raise PullError(
            PullReason.STORE_FAILED, f"A pull into {root} is under way; try again when it has ended."
        ) from None


@contextmanager
def _locked(root: Path, how: int) -> Iterator[None]:
    folder = root / ".pointsman"
    make_dirs(folder)
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, STAGING_FILE_MODE)
    try:
        with suppress(PermissionError):  # another user's file, which has the mode already
            os.fchmod(descriptor, STAGING_FILE_MODE)
        fcntl.flock(descriptor, how)
        yield
    finally:
        os.close(descriptor)
