"""What is said of a source that cannot be read, and what a digest looks like. Pure."""

from __future__ import annotations

import re

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class SourceError(ValueError):
    """The source cannot be read. The text is one sentence that says what to write instead; it never repeats a
    credential that stood in the source."""


def is_digest(text: str) -> bool:
    """True for `sha256:` and 64 lower-case hexadecimal digits."""
    return _DIGEST.fullmatch(text) is not None
