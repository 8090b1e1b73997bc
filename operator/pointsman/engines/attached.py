"""What models bring along to pods beside the store: the Secret of a source, the claim or the image that a model lies
in. Pure.

A Secret is mounted as a folder into containers that pull, and into no other. Claims and images are mounted read-only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

from pointsman.api.model import Model
from pointsman.api.sources.oci import OciSource
from pointsman.api.sources.pvc import CLAIMS_PATH, SCHEME, PvcSource
from pointsman.api.sources.source import parse_source

Manifest = dict[str, Any]
CREDENTIALS_PATH = "/var/run/pointsman/credentials"
IMAGES_PATH = "/images"
"""Where pods mount models that are images."""


def secret_volumes(models: Iterable[Model]) -> list[Manifest]:
    """The Secrets of these models, each once."""
    names = dict.fromkeys(m.secret_ref.name for m in models if m.source and m.secret_ref)
    return [{"name": _name("secret", n), "secret": {"secretName": n, "defaultMode": 0o440}} for n in names]


def secret_mounts(model: Model) -> list[Manifest]:
    """Of the container that pulls this model."""
    if model.secret_ref is None:
        return []
    return [{"name": _name("secret", model.secret_ref.name), "mountPath": CREDENTIALS_PATH, "readOnly": True}]


def claim_volumes(models: Iterable[Model]) -> list[Manifest]:
    """The claims that models lie in, each once."""
    return [
        {"name": _name("claim", claim), "persistentVolumeClaim": {"claimName": claim, "readOnly": True}}
        for claim in claims(models)
    ]


def claim_mounts(models: Iterable[Model]) -> list[Manifest]:
    """Of a container that reads these models."""
    return [
        {"name": _name("claim", claim), "mountPath": f"{CLAIMS_PATH}/{claim}", "readOnly": True}
        for claim in claims(models)
    ]


def image_volumes(models: Iterable[Model]) -> list[Manifest]:
    """The images that these models are, each once. Who has a digest is pulled when it is not there; for a tag
    Kubernetes' own rule holds: `latest` is asked for at each start."""
    return [{"name": _name("image", r), "image": {"reference": r}} for r in _references(models)]


def image_mounts(models: Iterable[Model]) -> list[Manifest]:
    """Of a container that reads these models."""
    return [{"name": _name("image", r), "mountPath": image_path(r), "readOnly": True} for r in _references(models)]


def image_path(reference: str) -> str:
    """Where pods mount this image."""
    return f"{IMAGES_PATH}/{_digest(reference)}"


def image_reference(model: Model) -> str:
    """The image that this model is; empty when it is none."""
    source = parse_source(model.source) if model.source else None
    return source.reference(model.digest) if isinstance(source, OciSource) else ""


def _references(models: Iterable[Model]) -> list[str]:
    return list(dict.fromkeys(filter(None, map(image_reference, models))))


def claims(models: Iterable[Model]) -> list[str]:
    """The claims that models lie in (`pvc://`), each once."""
    sources = [parse_source(m.source) for m in models if m.source and m.source.startswith(SCHEME)]
    return list(dict.fromkeys(s.claim for s in sources if isinstance(s, PvcSource)))


def _name(kind: str, of: str) -> str:
    """A volume's name: an object's own may be too long for one."""
    return f"{kind}-{_digest(of)}"


def _digest(of: str) -> str:
    return hashlib.sha256(of.encode()).hexdigest()[:10]
