"""Which Secrets and ConfigMaps do backends name? What a gateway may read, watches and asks about. Pure."""

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


def names(backend: LLMBackend, kind: BundleKind, name: str) -> bool:
    """Does the backend name this object?"""
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
