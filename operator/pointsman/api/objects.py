"""The two kinds as whole objects: metadata, spec, status. Every body that enters the program passes through here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from pointsman.api import meta
from pointsman.api.backend import LLMBackendSpec
from pointsman.api.backend_status import LLMBackendStatus
from pointsman.api.base import cel_string
from pointsman.api.route import ModelRouteSpec, ModelRouteStatus

NAME_PATTERN = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"
NAME_LIMIT = 50
NAME_MESSAGE = (
    "metadata.name must have at most 50 lower-case letters, digits and '-', beginning with a letter and ending with a"
    " letter or digit (the names of its Service and Deployment are made from it)"
)
NAME_CEL = f"self.metadata.name.size() <= {NAME_LIMIT} && self.metadata.name.matches({cel_string(NAME_PATTERN)})"


@dataclass(frozen=True)
class Meta:
    """The part of an object's metadata that decisions need."""

    name: str
    namespace: str
    uid: str
    generation: int
    created: str
    """creationTimestamp, RFC 3339; empty for an object from a file."""
    deleting: bool
    annotations: Mapping[str, str]

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Meta:
        return cls(
            name=raw.get("name", ""),
            namespace=raw.get("namespace", ""),
            uid=raw.get("uid", ""),
            generation=int(raw.get("generation", 1)),
            created=raw.get("creationTimestamp") or "",
            deleting=bool(raw.get("deletionTimestamp")),
            annotations=dict(raw.get("annotations") or {}),
        )


@dataclass(frozen=True)
class LLMBackend:
    meta: Meta
    spec: LLMBackendSpec
    status: LLMBackendStatus

    @classmethod
    def parse(cls, body: Mapping[str, Any]) -> LLMBackend:
        """Raises `pydantic.ValidationError` when the spec does not fit."""
        return cls(
            Meta.parse(body.get("metadata") or {}),
            LLMBackendSpec.model_validate(body.get("spec") or {}),
            LLMBackendStatus.model_validate(body.get("status") or {}),
        )


@dataclass(frozen=True)
class ModelRoute:
    meta: Meta
    spec: ModelRouteSpec
    status: ModelRouteStatus

    @classmethod
    def parse(cls, body: Mapping[str, Any]) -> ModelRoute:
        """Raises `pydantic.ValidationError` when the spec does not fit."""
        return cls(
            Meta.parse(body.get("metadata") or {}),
            ModelRouteSpec.model_validate(body.get("spec") or {}),
            ModelRouteStatus.model_validate(body.get("status") or {}),
        )


PLURALS = {meta.BACKEND_KIND: meta.BACKEND_PLURAL, meta.ROUTE_KIND: meta.ROUTE_PLURAL}


def sentence(error: ValidationError) -> str:
    """The first problem of a validation error as one sentence: `spec.targets[0].backend: must be a name …`."""
    first = error.errors()[0]
    path = "spec"
    for part in first["loc"]:
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            path += f".{part}"
    if first["type"] == "extra_forbidden":
        return f"{path}: unknown field"
    return f"{path}: {first['msg']}"
