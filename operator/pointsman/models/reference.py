"""From the command line's SOURCE to a source that can be pulled. The reading itself is pure: `api/sources/`."""

from __future__ import annotations

from dataclasses import replace

from pointsman.api.sources.error import SourceError, is_digest
from pointsman.api.sources.ollama import OllamaSource
from pointsman.api.sources.source import Source, parse_source
from pointsman.models.errors import PullError, PullReason


def read_source(source: str, *, insecure: bool = False) -> Source:
    """`insecure` asks for plain HTTP, as `ollama+http://` does; TLS certificates are checked in any case.

    Raises `PullError` (BadReference).
    """
    try:
        parsed = parse_source(source)
    except SourceError as error:
        raise PullError(PullReason.BAD_REFERENCE, f"Cannot read the source: {error}.") from None
    return replace(parsed, plain_http=True) if insecure and isinstance(parsed, OllamaSource) else parsed


def read_pin(digest: str | None) -> str | None:
    """The pinned digest, `None` when there is no pin. Raises `PullError` (BadReference)."""
    if not digest:
        return None
    if not is_digest(digest):
        raise PullError(
            PullReason.BAD_REFERENCE, f"The digest {digest!r} is not sha256: followed by 64 hexadecimal digits."
        )
    return digest
