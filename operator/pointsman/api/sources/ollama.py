"""Where a model of Ollama's registry protocol comes from, and the names Ollama serves it by. Pure.

Decided here: how `ollama://…` is read, which transport it asks for, and the digest-derived name that the gateway sends.
Not here: how the bytes travel (`models/registry.py`) and where they lie (`models/store.py`).

    ollama://[host[:port]/][namespace/]name[:tag]         over TLS
    ollama+http://[host[:port]/][namespace/]name[:tag]    in plain text, for a registry inside the cluster

- The host defaults to `registry.ollama.ai`, the namespace to `library`, the tag to `latest`.
- Of two parts, the first is a host when it holds a `.` or a `:` or is `localhost` (Docker's rule; Ollama allows no dot
  in a namespace, so nothing that Ollama can name is lost), otherwise a namespace.
- Plain HTTP must be asked for in the source itself, or by whoever runs the pull; it is never a fallback, because what
  fails over to plain text can be made to.
- A source carries no credentials, and no digest: that has a field of its own (`digest`).

The allowed characters and lengths are Ollama's own (`types/model/name.go`), so that every source that is accepted here
is a name that Ollama can serve.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pointsman.api.sources.error import SourceError, is_digest

SCHEME = "ollama://"
PLAIN_SCHEME = "ollama+http://"
DEFAULT_HOST = "registry.ollama.ai"
DEFAULT_NAMESPACE = "library"
DEFAULT_TAG = "latest"
SERVED_NAMESPACE = "pointsman"
"""Digest-derived names live in this namespace of the default host, which Ollama lists without the host."""

_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}(:[0-9]{1,5})?")
_NAMESPACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}")


@dataclass(frozen=True, slots=True)
class OllamaSource:
    """One model of one registry; all parts are filled in."""

    host: str
    """Lower case, with the port if one was given."""
    namespace: str
    name: str
    tag: str
    plain_http: bool = False

    @property
    def short_name(self) -> str:
        """The name that Ollama lists the model by (`/api/tags`): `llama3.2:3b`, `ns/name:tag`, `host/ns/name:tag`."""
        if self.host != DEFAULT_HOST:
            return f"{self.host}/{self.namespace}/{self.name}:{self.tag}"
        if self.namespace != DEFAULT_NAMESPACE:
            return f"{self.namespace}/{self.name}:{self.tag}"
        return f"{self.name}:{self.tag}"

    @property
    def base_url(self) -> str:
        """Where the registry answers, without a trailing slash."""
        return f"{'http' if self.plain_http else 'https'}://{self.host}"

    @property
    def repository(self) -> str:
        """The path of the model within its registry."""
        return f"{self.namespace}/{self.name}"

    @property
    def path_parts(self) -> tuple[str, str, str, str]:
        """The manifest's place below `manifests/` in a store."""
        return (self.host, self.namespace, self.name, self.tag)

    def __str__(self) -> str:
        scheme = PLAIN_SCHEME if self.plain_http else SCHEME
        return f"{scheme}{self.host}/{self.namespace}/{self.name}:{self.tag}"


def is_ollama(source: str) -> bool:
    """True when `source` has a scheme that `parse_ollama` reads."""
    return source.startswith((SCHEME, PLAIN_SCHEME))


def parse_ollama(source: str) -> OllamaSource:
    """Raises `SourceError`."""
    if source.startswith(PLAIN_SCHEME):
        plain, rest = True, source.removeprefix(PLAIN_SCHEME)
    elif source.startswith(SCHEME):
        plain, rest = False, source.removeprefix(SCHEME)
    else:
        raise SourceError("a source of Ollama's registry starts with ollama:// , as in ollama://llama3.2:3b")
    if "@" in rest:
        before, _, after = rest.rpartition("@")
        if after.startswith("sha256") and "/" not in after and ":" not in before.rpartition("/")[0]:
            raise SourceError("write the digest in the field `digest`, not in the source")
        raise SourceError("a source holds no credentials: remove them")
    path, tag = _split_tag(rest)
    parts = path.split("/")
    if len(parts) > 3 or "" in parts:
        raise SourceError(f"{source!r} is not ollama://[host[:port]/][namespace/]name[:tag]")
    *front, name = parts
    host, namespace = _split_front(front)
    for part, pattern, what in (
        (host, _HOST, "host"),
        (namespace, _NAMESPACE, "namespace"),
        (name, _NAME, "name"),
        (tag, _NAME, "tag"),
    ):
        if not pattern.fullmatch(part):
            raise SourceError(f"{part!r} in {source!r} is not a {what} that Ollama accepts")
    _, _, port = host.partition(":")
    if port and not 0 < int(port) < 65536:
        raise SourceError(f"{port} in {source!r} is not a port")
    return OllamaSource(host=host.lower(), namespace=namespace, name=name, tag=tag, plain_http=plain)


def _split_tag(rest: str) -> tuple[str, str]:
    """The tag follows a colon in the last part; an earlier colon is a port."""
    head, slash, last = rest.rpartition("/")
    name, colon, tag = last.partition(":")
    return head + slash + name, tag if colon else DEFAULT_TAG


def _split_front(front: list[str]) -> tuple[str, str]:
    match front:
        case [host, namespace]:
            return host, namespace
        case [only] if "." in only or ":" in only or only.lower() == "localhost":
            return only, DEFAULT_NAMESPACE
        case [only]:
            return DEFAULT_HOST, only
        case _:
            return DEFAULT_HOST, DEFAULT_NAMESPACE


def served_name(source: OllamaSource, digest: str) -> str:
    """The name to send to Ollama for exactly the model whose manifest has this digest: `pointsman/<name>:sha256-<hex>`.

    It carries the whole digest (71 of Ollama's 80 characters for a tag): a pin that a second manifest with the same
    first digits could take over would not be one. Raises `ValueError` when `digest` is not `sha256:<64 hex>`.
    """
    _, namespace, name, tag = served_path_parts(source, digest)
    return f"{namespace}/{name}:{tag}"


def served_path_parts(source: OllamaSource, digest: str) -> tuple[str, str, str, str]:
    """The place of `served_name` below `manifests/` in a store. Raises `ValueError` as `served_name` does."""
    if not is_digest(digest):
        raise ValueError(f"{digest!r} is not sha256:<64 hex digits>")
    return (DEFAULT_HOST, SERVED_NAMESPACE, source.name, digest.replace(":", "-"))
