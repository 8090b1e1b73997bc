"""Where a model of a Hugging Face Hub comes from. Pure.

    hf://org/repo[@revision][/path/to/file]

- Without a file, the repository is one model: a folder with `config.json` and its weights, as vLLM reads it.
- With a file, that file is the model (GGUF, as llama.cpp reads it).
- The revision is a branch, a tag or a commit; `main` when not given. A pull resolves it to a commit first, and asks for
  everything by that commit.
- Which Hub, and with which token, is not the source's matter: `HF_ENDPOINT` and the model's `secretRef` say so.

The allowed characters are the Hub's own (`huggingface_hub`, `utils/_validators.py`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pointsman.api.sources.error import SourceError

SCHEME = "hf://"
DEFAULT_REVISION = "main"

_PART = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?")
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_FILE = re.compile(r"[A-Za-z0-9_.+-]+(/[A-Za-z0-9_.+-]+)*")


@dataclass(frozen=True, slots=True)
class HfSource:
    """A repository of a Hub at a revision, or one file of it."""

    repo: str
    """`org/name`."""
    revision: str = DEFAULT_REVISION
    file: str = ""
    """Path in the repository; empty for all of it."""

    def __str__(self) -> str:
        at = "" if self.revision == DEFAULT_REVISION else f"@{self.revision}"
        return f"{SCHEME}{self.repo}{at}" + (f"/{self.file}" if self.file else "")


def parse_hf(source: str) -> HfSource:
    """Raises `SourceError`."""
    rest = source.removeprefix(SCHEME)
    org, _, rest = rest.partition("/")
    head, _, file = rest.partition("/")
    name, at, revision = head.partition("@")
    if not name or (at and not revision):
        raise SourceError(f"{source!r} is not hf://org/repo[@revision][/file]")
    for part, pattern, what in (
        (org, _PART, "organisation"),
        (name, _PART, "repository"),
        (revision or DEFAULT_REVISION, _REVISION, "revision"),
    ):
        if not pattern.fullmatch(part) or ".." in part or "--" in part:
            raise SourceError(f"{part!r} in {source!r} is not a name of a {what} that the Hub accepts")
    if file and (not _FILE.fullmatch(file) or any(p in (".", "..") for p in file.split("/"))):
        raise SourceError(f"{file!r} in {source!r} is not the path of a file in the repository")
    return HfSource(f"{org}/{name}", revision or DEFAULT_REVISION, file)
