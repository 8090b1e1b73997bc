"""The CustomResourceDefinitions, generated from the models: structural schemas, CEL rules, printer columns.

`make generate` writes one file a kind; `make verify` fails when the committed ones are stale.
Structural schemas (Kubernetes, "Specifying a structural schema") know neither `$ref` nor `anyOf` with types, so both
are resolved here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import yaml
from pydantic import BaseModel

from pointsman.api import meta
from pointsman.api.backend import LLMBackendSpec
from pointsman.api.backend_status import LLMBackendStatus
from pointsman.api.base import ApiModel
from pointsman.api.objects import NAME_CEL, NAME_MESSAGE
from pointsman.api.route import ModelRouteSpec, ModelRouteStatus

_DROP = {"title", "$defs", "discriminator"}


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """The structural schema of a model."""
    raw = model.model_json_schema(by_alias=True, mode="validation")
    return _structural(raw, raw.get("$defs", {}), model)


def _structural(node: Mapping[str, Any], defs: Mapping[str, Any], model: Any = None) -> dict[str, Any]:
    if "$ref" in node:
        name = node["$ref"].rsplit("/", 1)[1]
        merged = {**defs[name], **{k: v for k, v in node.items() if k != "$ref"}}
        return _structural(merged, defs, model)
    if "anyOf" in node:
        (only,) = [n for n in node["anyOf"] if n.get("type") != "null"]
        merged = {**only, **{k: v for k, v in node.items() if k != "anyOf"}}
        return _structural(merged, defs, model)
    out = {k: v for k, v in node.items() if k not in _DROP}
    if out.get("default", ...) in (None, []):
        del out["default"]  # the same as nothing, and not worth a line in everybody's objects
    if "const" in out:
        out["enum"] = [out.pop("const")]
    kind = out.get("type")
    if kind == "object":
        _object(out, defs, model)
    elif kind == "array":
        out["items"] = _structural(out["items"], defs, _inner(model))
    elif kind == "integer":
        out["format"] = "int64"
    return out


def _object(out: dict[str, Any], defs: Mapping[str, Any], model: Any) -> None:
    extra = out.pop("additionalProperties", None)
    if isinstance(extra, dict):
        out["additionalProperties"] = _structural(extra, defs)
    if "default" in out:
        out["default"] = {}  # the properties' own defaults fill it
    if "properties" in out:
        types = _fields(model)
        out["properties"] = {k: _structural(v, defs, types.get(k)) for k, v in out["properties"].items()}
    cls = _model_class(model)
    if cls is not None and cls.rules:
        out["x-kubernetes-validations"] = [{"rule": r.cel, "message": r.message} for r in cls.rules]


def _without_defaults(schema: Any) -> Any:
    """A status holds what was observed and nothing that the API server adds."""
    if isinstance(schema, dict):
        return {k: _without_defaults(v) for k, v in schema.items() if k != "default"}
    return [_without_defaults(v) for v in schema] if isinstance(schema, list) else schema


def _fields(model: Any) -> dict[str, Any]:
    cls = _model_class(model)
    return {} if cls is None else {f.alias or n: f.annotation for n, f in cls.model_fields.items()}


def _model_class(annotation: Any) -> type[ApiModel] | None:
    """The model inside `X`, `X | None`, `Annotated[X, …]`."""
    if isinstance(annotation, type):
        return annotation if issubclass(annotation, ApiModel) else None
    for arg in get_args(annotation):
        if (found := _model_class(arg)) is not None:
            return found
    return None


def _inner(annotation: Any) -> Any:
    return _model_class(annotation)


def _crd(
    kind: str, plural: str, short: str, spec: type[ApiModel], status: type[ApiModel], extra: Mapping[str, Any]
) -> dict[str, Any]:
    schema = {
        "type": "object",
        "description": (spec.__doc__ or "").strip(),
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": schema_of(spec),
            "status": _without_defaults(schema_of(status)),
        },
        "x-kubernetes-validations": [{"rule": NAME_CEL, "message": NAME_MESSAGE}],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{meta.GROUP}"},
        "spec": {
            "group": meta.GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": kind.lower(),
                "shortNames": [short],
                "categories": ["pointsman"],
            },
            "versions": [
                {
                    "name": meta.VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": schema},
                    **extra,
                }
            ],
        },
    }


def _column(name: str, path: str, kind: str = "string", priority: int = 0) -> dict[str, Any]:
    column: dict[str, Any] = {"name": name, "type": kind, "jsonPath": path}
    if priority:
        column["priority"] = priority
    return column


def _condition(name: str, part: str) -> str:
    return f'.status.conditions[?(@.type=="{name}")].{part}'


def backend_crd() -> dict[str, Any]:
    return _crd(
        meta.BACKEND_KIND,
        meta.BACKEND_PLURAL,
        "pmb",
        LLMBackendSpec,
        LLMBackendStatus,
        {
            "subresources": {
                "status": {},
                "scale": {
                    "specReplicasPath": ".spec.replicas",
                    "statusReplicasPath": ".status.replicas",
                    "labelSelectorPath": ".status.selector",
                },
            },
            "selectableFields": [{"jsonPath": ".spec.engine"}],
            "additionalPrinterColumns": [
                _column("Engine", ".spec.engine"),
                _column("Ready", _condition("Ready", "status")),
                _column("Reason", _condition("Ready", "reason")),
                _column("Health", ".status.health.state"),
                _column("Models", ".status.modelsSummary"),
                _column("Pods", ".status.readyReplicas", "integer"),
                _column("Message", _condition("Ready", "message"), priority=1),
                _column("Age", ".metadata.creationTimestamp", "date"),
            ],
        },
    )


def route_crd() -> dict[str, Any]:
    return _crd(
        meta.ROUTE_KIND,
        meta.ROUTE_PLURAL,
        "pmr",
        ModelRouteSpec,
        ModelRouteStatus,
        {
            "subresources": {"status": {}},
            "additionalPrinterColumns": [
                _column("Models", ".spec.models"),
                _column("Ready", _condition("Ready", "status")),
                _column("Reason", _condition("Ready", "reason")),
                _column("Targets", ".status.targetsSummary"),
                _column("Armed", _condition("FallbackArmed", "status")),
                _column("Last-Fallback", ".status.lastFallback.at", "date"),
                _column("Message", _condition("Ready", "message"), priority=1),
                _column("Age", ".metadata.creationTimestamp", "date"),
            ],
        },
    )


def render() -> dict[str, str]:
    """File name → its text."""
    head = "# Generated from operator/pointsman/api by `make generate`. Do not edit.\n"
    return {
        f"{crd['metadata']['name']}.yaml": head + yaml.safe_dump(crd, sort_keys=False, width=120, allow_unicode=True)
        for crd in (backend_crd(), route_crd())
    }
