"""An OCI manifest of a model as values: which layers are files, and which are archives of files. Pure.

Sources: the OCI image specification (manifests, annotations), ORAS (`io.deis.oras.content.unpack`), the CNCF model
specification (`org.cncf.model.filepath`, `application/vnd.cncf.model.…`), and Docker's model artefacts
(`application/vnd.docker.ai.…`).
"""

from __future__ import annotations

import msgspec

from pointsman.api.sources.error import is_digest
from pointsman.models.blob import Blob, File, digest_of
from pointsman.models.choosing import is_safe
from pointsman.models.errors import PullError, PullReason

MANIFEST_TYPES = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_PATHS = ("org.cncf.model.filepath", "org.cnai.model.filepath", "org.opencontainers.image.title")
_UNPACK = "io.deis.oras.content.unpack"
_MODEL_PACK = ("application/vnd.cncf.model.", "application/vnd.cnai.model.")
_DOCKER_GGUF = "application/vnd.docker.ai.gguf"
_ARCHIVES = (".tar", ".tar+gzip", ".tar.gzip")


class _Descriptor(msgspec.Struct, frozen=True, rename="camel"):
    digest: str
    size: int
    media_type: str = ""
    annotations: dict[str, str] | None = None


class _Document(msgspec.Struct, frozen=True, rename="camel"):
    layers: tuple[_Descriptor, ...] = ()
    manifests: tuple[_Descriptor, ...] = ()


class Artefact(msgspec.Struct, frozen=True):
    """A manifest that was read."""

    digest: str
    """`sha256:…` of the manifest's bytes."""
    files: tuple[File, ...] = ()
    only: str = ""
    """Of an index with one manifest: that one's digest."""


def read_artefact(raw: bytes) -> Artefact:
    """Raises `PullError`: RegistryError when it is no JSON (a proxy's page, say), NotAModel when it is no model."""
    try:
        document = msgspec.json.decode(raw, type=_Document)
    except msgspec.ValidationError:
        raise _no_model("its manifest has another shape") from None
    except msgspec.DecodeError:
        raise PullError(
            PullReason.REGISTRY_ERROR,
            "The registry answered something that is no manifest; check the host and any proxy in between.",
        ) from None
    for descriptor in (*document.layers, *document.manifests):
        if not is_digest(descriptor.digest) or descriptor.size < 0:
            raise _no_model("its manifest names a blob that cannot exist")
    if document.manifests:
        if len(document.manifests) > 1:
            raise _no_model("it is an index of several; name one by its digest")
        return Artefact(digest_of(raw), only=document.manifests[0].digest)
    files = tuple(file for layer in document.layers if (file := _file(layer)) is not None)
    if not files:
        raise _no_model("none of its layers is a file")
    paths = [file.path for file in files if not file.unpack]
    if len(set(paths)) != len(paths):
        raise _no_model("two of its layers are one file")
    return Artefact(digest_of(raw), files)


def _file(layer: _Descriptor) -> File | None:
    notes = layer.annotations or {}
    path = next((notes[key] for key in _PATHS if notes.get(key)), "")
    blob = Blob(size=layer.size, digest=layer.digest, where=path or layer.digest)
    archive = layer.media_type.endswith(_ARCHIVES)
    if layer.media_type.endswith("zstd"):
        raise _no_model("its layers are packed with zstd, which is not read here; push it with gzip")
    if archive and (notes.get(_UNPACK) == "true" or not path or layer.media_type.startswith(_MODEL_PACK)):
        return File("", blob, unpack=True)
    if not path:
        return File("model.gguf", blob) if layer.media_type.startswith(_DOCKER_GGUF) else None
    if not is_safe(path):
        raise _no_model("a layer's file lies outside its folder")
    return File(path, blob)


def _no_model(why: str) -> PullError:
    return PullError(PullReason.NOT_A_MODEL, f"This is no model of files ({why}); look at the artefact.")
