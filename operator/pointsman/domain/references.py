"""Which Secrets and ConfigMaps do backends name? What a gateway may read, watches and asks about (`references`), and
what pulls are given (`pull_secrets`). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pointsman.api.objects import LLMBackend
from pointsman.api.references import BundleKind


@dataclass(frozen=True)
class References:
    """Names of objects of one namespace."""

    secrets: frozenset[str] = frozenset()
    config_maps: frozenset[str] = frozenset()


def references(backends: Iterable[LLMBackend]) -> References:
    named = [pair for backend in backends for pair in _named(backend)]
    return References(
        frozenset(name for kind, name in named if kind is BundleKind.SECRET),
        frozenset(name for kind, name in named if kind is BundleKind.CONFIG_MAP),
    )


def pull_secrets(backend: LLMBackend) -> frozenset[str]:
    """The Secrets that its pulls are given. Gateways have nothing to do with them, and get no right to read them."""
    return frozenset(m.secret_ref.name for m in backend.spec.models if m.source and m.secret_ref is not None)


def names(backend: LLMBackend, kind: BundleKind, name: str) -> bool:
    """Does the backend name this object, for gateways or for pulls?"""
    if kind is BundleKind.SECRET and name in pull_secrets(backend):
        return True
    return (kind, name) in set(_named(backend))


def _named(backend: LLMBackend) -> Iterator[tuple[BundleKind, str]]:
    external = backend.spec.external
    if external is None:
        return
    if external.secret_ref is not None:
        yield BundleKind.SECRET, external.secret_ref.name
    if external.client_certificate_ref is not None:
        yield BundleKind.SECRET, external.client_certificate_ref.name
    if external.ca_bundle_ref is not None:
        yield external.ca_bundle_ref.kind, external.ca_bundle_ref.name
