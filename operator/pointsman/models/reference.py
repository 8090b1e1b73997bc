"""From the command line's SOURCE to a source that can be pulled. The reading itself is pure: `api/sources/`."""

from __future__ import annotations

from dataclasses import replace

from pointsman.api.sources.error import SourceError, is_digest
from pointsman.api.sources.ollama import OllamaSource, parse_ollama
from pointsman.models.errors import PullError, PullReason

__all__ = ["OllamaSource", "read_pin", "read_source"]


def read_source(source: str, *, insecure: bool = False) -> OllamaSource:
    """`insecure` asks for plain HTTP, as `ollama+http://` does; TLS certificates are checked in any case.

    Raises `PullError` (BadReference).
    """
    try:
        parsed = parse_ollama(source)
    except SourceError as error:
        raise PullError(PullReason.BAD_REFERENCE, f"Cannot read the source: {error}.") from None
    return replace(parsed, plain_http=True) if insecure else parsed


def read_pin(digest: str | None) -> str | None:
    """The pinned digest of the manifest, `None` when there is no pin. Raises `PullError` (BadReference)."""
    if not digest:
        return None
    if not is_digest(digest):
        raise PullError(
            PullReason.BAD_REFERENCE, f"The digest {digest!r} is not sha256: followed by 64 hexadecimal digits."
        )
    return digest
