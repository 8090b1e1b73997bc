"""Where a model that is an artefact of an OCI registry comes from. Pure.

    oci://registry[:port]/repository[:tag[/path]]         over TLS
    oci+http://registry[:port]/repository[:tag[/path]]    in plain text, for a registry inside the cluster

The registry is always named. The tag is `latest` when not given; a digest has a field of its own (`digest`). The path
names the file or the folder that is the model, where the artefact holds more than that; of an image it is relative to
its folder `models`, where it has one. Plain text must be asked for in the source itself and is never a fallback.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pointsman.api.sources.error import SourceError

SCHEME = "oci://"
PLAIN_SCHEME = "oci+http://"
DEFAULT_TAG = "latest"

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?(:[0-9]{1,5})?")
_REPOSITORY = re.compile(r"[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_PATH = re.compile(r"[A-Za-z0-9_.+=,@-]+(/[A-Za-z0-9_.+=,@-]+)*")


@dataclass(frozen=True, slots=True)
class OciSource:
    """An artefact of a registry."""

    host: str
    """Lower case, with the port if one was given."""
    repository: str
    tag: str
    plain_http: bool = False
    path: str = ""
    """Of the model in it; empty when all of it is the model."""

    @property
    def base_url(self) -> str:
        """Where the registry answers, without a trailing slash."""
        return f"{'http' if self.plain_http else 'https'}://{self.host}"

    def __str__(self) -> str:
        inner = f"/{self.path}" if self.path else ""
        return f"{PLAIN_SCHEME if self.plain_http else SCHEME}{self.host}/{self.repository}:{self.tag}{inner}"

    def reference(self, pin: str | None) -> str:
        """What a container runtime calls it."""
        return f"{self.host}/{self.repository}{f'@{pin}' if pin else f':{self.tag}'}"


def parse_oci(source: str) -> OciSource:
    """Raises `SourceError`."""
    plain = source.startswith(PLAIN_SCHEME)
    rest = source.removeprefix(PLAIN_SCHEME if plain else SCHEME)
    if "@sha256:" in rest:
        raise SourceError("write the digest in the field `digest`, not in the source")
    if "@" in rest:
        raise SourceError("a source holds no credentials: put them into a Secret and name it in secretRef")
    host, _, path = rest.partition("/")
    repository, _, tagged = path.partition(":")
    tag, _, inner = tagged.partition("/")
    inner = inner.removesuffix("/")
    for part, pattern, what in (
        (host, _HOST, "registry"),
        (repository, _REPOSITORY, "repository"),
        (tag or DEFAULT_TAG, _TAG, "tag"),
    ):
        if not pattern.fullmatch(part) or len(part) > 255:
            raise SourceError(f"{part!r} in {source!r} is not a {what}: write oci://registry/repository:tag")
    if inner and (not _PATH.fullmatch(inner) or any(p in (".", "..") for p in inner.split("/"))):
        raise SourceError(f"{inner!r} in {source!r} is not a path in it")
    return OciSource(host.lower(), repository, tag or DEFAULT_TAG, plain, inner)
