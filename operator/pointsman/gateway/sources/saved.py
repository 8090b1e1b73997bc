"""The last resources and addresses, kept in a folder, so that a gateway can start while the API server is away.

Decided here: what is kept (no secret value, no environment) and in which form. Not here: when (`cluster.py`). The
folder is meant to be a tmpfs that survives the container, not the pod.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from pointsman.domain.table import PodEndpoint

FILE = "table.json"
_FORM = 1


class Saved(msgspec.Struct, frozen=True):
    """Trimmed objects (`domain/parsed.py`) by name, and the pods of each backend."""

    namespace: str
    backends: dict[str, dict[str, Any]]
    routes: dict[str, dict[str, Any]]
    endpoints: dict[str, tuple[PodEndpoint, ...]]
    gateways: tuple[str, ...] = ()
    """Those that shared the limits."""
    form: int = _FORM


def write(folder: Path, saved: Saved) -> None:
    """Replaces what the folder holds, whole or not at all. Raises `OSError`."""
    replace_file(folder / FILE, msgspec.json.encode(saved))


def replace_file(path: Path, data: bytes) -> None:
    """Replaces a file, whole or not at all. Raises `OSError`."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        os.replace(name, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def read(folder: Path, namespace: str) -> Saved | None:
    """What was saved for this namespace; None when there is nothing, or nothing that this release can read."""
    try:
        saved = msgspec.json.decode((folder / FILE).read_bytes(), type=Saved)
    except (OSError, msgspec.DecodeError):
        return None
    return saved if saved.form == _FORM and saved.namespace == namespace else None
