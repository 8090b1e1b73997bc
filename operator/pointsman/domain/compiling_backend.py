"""One LLMBackend compiled to what traffic needs of it.

Decided here: what each field of a backend means for traffic, and what is said of the Secrets and bundles that it names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from pointsman.api.backend import LLMBackendSpec
from pointsman.api.engine import Engine
from pointsman.api.model import Model
from pointsman.api.objects import LLMBackend
from pointsman.api.options.external import Stored
from pointsman.api.probing import GenerationMode, GenerationProbe
from pointsman.api.references import BundleKind
from pointsman.api.scalars import seconds
from pointsman.api.sources.error import SourceError
from pointsman.api.sources.ollama import OllamaSource, served_name
from pointsman.api.sources.source import parse_source
from pointsman.domain.table import (
    Backend,
    Capacity,
    Credential,
    Endpoint,
    GenerationPolicy,
    Keeps,
    PodEndpoint,
    ProbePolicy,
    RefProblem,
    SecretValue,
)
from pointsman.domain.traits import Price, Traits
from pointsman.domain.trust import ClientCertificate, Trust, read_bundle, read_client_certificate

OLLAMA_KEEP_ALIVE = "5m"
"""Ollama's own default."""


@dataclass(frozen=True)
class Part:
    """A backend's part of the table."""

    backend: Backend
    trouble: tuple[RefProblem, str] | None
    """Why no target can use it, with a sentence; None when all that it names is there."""


def part_of(
    backend: LLMBackend,
    pods: tuple[PodEndpoint, ...],
    secrets: Mapping[str, SecretValue],
    config_maps: Mapping[str, SecretValue],
) -> Part:
    """`pods` are those of a backend that we run. Never raises."""
    bundle = ca_bundle(backend, secrets, config_maps)
    trouble = None
    if (secret := missing_secret(backend, secrets)) is not None:
        trouble = RefProblem.SECRET_MISSING, secret
    elif isinstance(bundle, str):
        trouble = RefProblem.CA_BUNDLE_MISSING, bundle
    return Part(_backend(backend, pods, secrets, bundle), trouble)


def missing_secret(backend: LLMBackend, secrets: Mapping[str, SecretValue]) -> str | None:
    """What is wrong with the Secrets that an External backend names, in a sentence; None when nothing is."""
    shown = client_certificate(backend, secrets)
    return _missing_key(backend, secrets) or (shown if isinstance(shown, str) else None)


def client_certificate(backend: LLMBackend, secrets: Mapping[str, SecretValue]) -> ClientCertificate | str | None:
    """What an External backend is to be shown; a sentence when it cannot be had, None when it wants none."""
    ref = backend.spec.external.client_certificate_ref if backend.spec.external else None
    if ref is None:
        return None
    held = secrets.get(ref.name)
    return read_client_certificate(ref.name, held.data if held is not None else None)


def _missing_key(backend: LLMBackend, secrets: Mapping[str, SecretValue]) -> str | None:
    ref = backend.spec.external.secret_ref if backend.spec.external else None
    if ref is None:
        return None
    secret = secrets.get(ref.name)
    if secret is None:
        return f"Secret {ref.name} does not exist: create it with the API key under {ref.key}"
    value = secret.data.get(ref.key, "").strip()
    if not value:
        return f"Secret {ref.name} has no value under the key {ref.key}"
    if not value.isprintable() or not value.isascii():
        return (
            f"the value of Secret {ref.name} under {ref.key} is no API key: it has characters that no header may carry"
        )
    return None


def ca_bundle(
    backend: LLMBackend, secrets: Mapping[str, SecretValue], config_maps: Mapping[str, SecretValue]
) -> Trust | str | None:
    """The authorities that an External backend names; a sentence when they cannot be had, None when it names none."""
    ref = backend.spec.external.ca_bundle_ref if backend.spec.external else None
    if ref is None:
        return None
    held = (secrets if ref.kind is BundleKind.SECRET else config_maps).get(ref.name)
    return read_bundle(ref, held.data if held is not None else None)


def _backend(
    backend: LLMBackend,
    pods: tuple[PodEndpoint, ...],
    secrets: Mapping[str, SecretValue],
    bundle: Trust | str | None,
) -> Backend:
    spec = backend.spec
    name = backend.meta.name
    shown = client_certificate(backend, secrets)
    host_header = None
    credential = None
    if spec.external is not None:
        url = urlsplit(spec.external.url)
        tls = url.scheme == "https"
        port = url.port or (443 if tls else 80)
        host_header = url.netloc
        # Two backends may name one URL, with different keys and models: each has its own endpoint, with its own health.
        endpoint = Endpoint(f"{name} {spec.external.url}", name, url.hostname or "", port, tls, url.path.rstrip("/"))
        # Without its own authorities nobody may take the system's in their place: there is no way to it then.
        endpoints: tuple[Endpoint, ...] = () if isinstance(bundle, str) else (endpoint,)
        models = {m.name: m.name for m in spec.models}
        ref = spec.external.secret_ref
        if ref is not None and _missing_key(backend, secrets) is None:
            secret = secrets[ref.name]
            credential = Credential(ref.name, secret.version, secret.data[ref.key].strip())
    else:
        endpoints = tuple(
            Endpoint(p.uid, name, p.host, p.port, False, "/v1") for p in sorted(pods, key=lambda p: p.uid)
        )
        pulled = {m.name: m.digest for m in backend.status.models if m.digest}
        if spec.fills_pods:  # pods that were started at other times may have other models, but for those with a pin
            pulled = {m.name: m.digest or "" for m in spec.served}
        models = {m.name: _sent_name(m, pulled.get(m.name, "")) for m in spec.served}
    probe = spec.probe
    return Backend(
        name=name,
        generation=backend.meta.generation,
        engine=spec.engine,
        endpoints=endpoints,
        models=models,
        credential=credential,
        probe=ProbePolicy(
            spec.probe_interval_seconds,
            seconds(probe.timeout),
            probe.failure_threshold,
            probe.success_threshold,
            _generation(spec),
        ),
        traits={m.name: _traits(m, spec) for m in spec.served},
        keeps=_keeps(spec),
        capacity=_capacity(spec),
        host_header=host_header,
        trust=bundle if isinstance(bundle, Trust) else None,
        client_certificate=shown if isinstance(shown, ClientCertificate) else None,
        unreachable=bundle if isinstance(bundle, str) else "",
    )


_STORED = {Stored.NONE: Keeps.NOTHING, Stored.BY_ID: Keeps.BY_ID, Stored.ALL: Keeps.ALL}


def _keeps(spec: LLMBackendSpec) -> Keeps:
    """Of the engines that we run, vLLM can keep responses, and who knows what an image of somebody's own does."""
    if spec.external is not None:
        return _STORED[spec.external.stored]
    return Keeps.BY_ID if spec.engine in (Engine.VLLM, Engine.CUSTOM) else Keeps.NOTHING


def _traits(model: Model, spec: LLMBackendSpec) -> Traits:
    return Traits(frozenset(model.capabilities), model.context_length, Price.of(model.pricing or spec.pricing))


def _capacity(spec: LLMBackendSpec) -> Capacity | None:
    in_flight = spec.max_in_flight
    if in_flight is None:
        return None
    return Capacity(in_flight, spec.max_queued_or_default, spec.queue_timeout_seconds)


def _generation(spec: LLMBackendSpec) -> GenerationPolicy | None:
    """Whoever pays by the token decides for himself whether a check may cost one."""
    probe = spec.probe.generation
    if probe is None:
        if spec.engine is Engine.EXTERNAL:
            return None
        probe = GenerationProbe()
    if probe.mode is GenerationMode.DISABLED:
        return None
    kept = spec.ollama.keep_alive if spec.ollama else None
    return GenerationPolicy(seconds(probe.interval), seconds(probe.timeout), seconds(kept or OLLAMA_KEEP_ALIVE))


def _sent_name(model: Model, digest: str) -> str:
    """Once pulled, the name of exactly that digest: an update of the tag cannot change what a request gets."""
    try:
        source = parse_source(model.source or "")
    except SourceError:
        return model.name  # the operator says what is wrong with the source; the engine will not know the name
    if not isinstance(source, OllamaSource):
        return model.name  # the server is told at its start to answer to it
    return served_name(source, digest) if digest else source.short_name
