"""Where a model that is one file on a web server comes from. Pure.

    https://host[:port]/path/to/model.gguf
    http://host[:port]/path/to/model.gguf     in plain text, and then only with a pin: the `digest` proves the bytes

A source carries no credentials (they are the model's `secretRef`) and no query: in one there is often a signature,
which ends in a status that everybody reads, and in time.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pointsman.api.sources.error import SourceError

SCHEME = "https://"
PLAIN_SCHEME = "http://"

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?(:[0-9]{1,5})?")
_PATH = re.compile(r"[A-Za-z0-9_.+~%@=,-]+(/[A-Za-z0-9_.+~%@=,-]+)*")
_FILE = re.compile(r"[A-Za-z0-9_.+-]+")


@dataclass(frozen=True, slots=True)
class HttpsSource:
    """One file of a web server."""

    url: str

    @property
    def file(self) -> str:
        """What the file is called in the store: the last part of the path."""
        return self.url.rpartition("/")[2]

    @property
    def plain(self) -> bool:
        """In plain text: only with a pin."""
        return self.url.startswith(PLAIN_SCHEME)

    def __str__(self) -> str:
        return self.url


def parse_https(source: str) -> HttpsSource:
    """Raises `SourceError`."""
    scheme = PLAIN_SCHEME if source.startswith(PLAIN_SCHEME) else SCHEME
    host, _, path = source.removeprefix(scheme).partition("/")
    if "@" in host:
        raise SourceError("a source holds no credentials: put them into a Secret and name it in secretRef")
    if "?" in path or "#" in path:
        raise SourceError("a source of a web server ends with its path: remove what follows ? or #")
    if not _HOST.fullmatch(host) or not _PATH.fullmatch(path) or any(p in (".", "..") for p in path.split("/")):
        raise SourceError(f"{source!r} is not {scheme}host[:port]/path/to/file")
    if not _FILE.fullmatch(path.rpartition("/")[2]):
        raise SourceError(f"the last part of {source!r} is not a file's name of letters, digits and _ . + -")
    return HttpsSource(f"{scheme}{host.lower()}/{path}")
