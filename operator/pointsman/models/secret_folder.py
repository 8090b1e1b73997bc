"""The Secret of a model, mounted as a folder: one file for each key. Values never leave it by way of a message."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pointsman.models.errors import PullError, PullReason

_MAX_BYTES = 256 << 10


class SecretFolder:
    """Reads keys of a mounted Secret; without a folder there are none."""

    def __init__(self, path: Path | None, environment: Mapping[str, str] | None = None) -> None:
        """`environment` answers where the folder has no such key, for keys that are names of variables (`HF_TOKEN`).

        Raises `PullError` (BadConfiguration).
        """
        self._path = path
        self._environment = environment or {}
        if path is not None and not path.is_dir():
            raise PullError(
                PullReason.BAD_CONFIGURATION, f"There is no folder {path} with credentials; check that it is mounted."
            )

    def value(self, *keys: str) -> str:
        """The one line of the first of these keys that is there; empty without any. Raises `PullError`."""
        for key in keys:
            text = self.text(key).strip() or (self._environment.get(key, "").strip() if key.isupper() else "")
            if text and not text.isprintable():
                raise PullError(PullReason.BAD_CONFIGURATION, f"The key {key} of the Secret holds more than one line.")
            if text:
                return text
        return ""

    def text(self, key: str) -> str:
        """All of a key; empty when it is not there. Raises `PullError` (BadConfiguration)."""
        if self._path is None:
            return ""
        try:
            with (self._path / key).open("rb") as file:
                return file.read(_MAX_BYTES).decode()
        except FileNotFoundError:
            return ""
        except (OSError, UnicodeDecodeError):
            raise PullError(
                PullReason.BAD_CONFIGURATION, f"Cannot read the key {key} of the Secret; check how it is mounted."
            ) from None
