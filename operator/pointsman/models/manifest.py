"""A model's manifest as values: which blobs make the model. Pure.

The shape is the Docker image manifest v2, schema 2, with media types of Ollama (`application/vnd.ollama.image.…`).
The digest of a manifest is that of its bytes as served, so they are kept and stored as they came.
"""

from __future__ import annotations

import msgspec

from pointsman.api.sources.error import is_digest
from pointsman.models.blob import Blob, digest_of
from pointsman.models.errors import PullError, PullReason

MEDIA_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
MAX_MANIFEST_BYTES = 4 << 20
_OLLAMA_MEDIA = "application/vnd.ollama.image."


class Descriptor(msgspec.Struct, frozen=True, rename="camel"):
    """One blob, as a manifest names it."""

    digest: str
    size: int
    """Bytes."""
    media_type: str = ""


class _Document(msgspec.Struct, frozen=True, rename="camel"):
    config: Descriptor
    layers: tuple[Descriptor, ...]


class Manifest(msgspec.Struct, frozen=True):
    """A manifest that was read and can be trusted to name only well-formed blobs."""

    raw: bytes
    digest: str
    """`sha256:…` of `raw`."""
    blobs: tuple[Blob, ...]
    """Layers and config, each digest once."""

    @property
    def total_bytes(self) -> int:
        """The size of all blobs."""
        return sum(blob.size for blob in self.blobs)


def read_manifest(raw: bytes) -> Manifest:
    """Raises `PullError`: RegistryError when it is no JSON (a proxy's page, say), NotAModel when it is no model."""
    try:
        msgspec.json.decode(raw)
    except msgspec.DecodeError:
        raise PullError(
            PullReason.REGISTRY_ERROR,
            "The registry answered something that is no manifest; check the host and any proxy in between.",
        ) from None
    try:
        document = msgspec.json.decode(raw, type=_Document)
    except msgspec.ValidationError:
        raise _no_model("its manifest has another shape") from None
    blobs = {blob.digest: blob for blob in (*document.layers, document.config)}
    if not any(layer.media_type.startswith(_OLLAMA_MEDIA) for layer in document.layers):
        raise _no_model("none of its layers is one of Ollama's")
    for blob in (*document.layers, document.config):
        if not is_digest(blob.digest) or blob.size < 0 or blobs[blob.digest].size != blob.size:
            raise _no_model("its manifest names a blob that cannot exist")
    wanted = tuple(Blob(size=blob.size, digest=blob.digest, where=blob.digest) for blob in blobs.values())
    return Manifest(raw=raw, digest=digest_of(raw), blobs=wanted)


def _no_model(why: str) -> PullError:
    return PullError(
        PullReason.NOT_A_MODEL, f"This is no model in Ollama's format ({why}); name one that `ollama pull` can pull."
    )
