"""Adapters that come and go while a server runs. Pure.

Decided here: when another list of adapters is a rollout, and what is asked of a server that runs. A pod loads by itself
what was in the list when its template was written, so a pod that starts anew needs nobody; as long as nothing else of
the template changes, later changes of the list are made in the pods that run. Facts (vLLM, `features/lora`):
`POST /v1/load_lora_adapter` with a name and a path, `POST /v1/unload_lora_adapter`; `GET /v1/models` names the model
below an adapter as its `parent`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pointsman.api import meta
from pointsman.api.model import Adapter
from pointsman.api.objects import LLMBackend
from pointsman.controllers.drift import drift
from pointsman.controllers.workload import template
from pointsman.engines.base import model_path
from pointsman.kube.resources import Obj, annotations_of

ANNOTATION = f"{meta.GROUP}/adapters"
"""On the workload: the adapters that its pods start with, as JSON."""


@dataclass(frozen=True)
class Call:
    """One thing to ask of a server."""

    path: str
    body: Mapping[str, str]
    adapter: str


def of(backend: LLMBackend) -> tuple[Adapter, ...]:
    """The adapters that the backend should serve."""
    return tuple(a for model in backend.spec.models for a in model.adapters)


def annotation(backend: LLMBackend) -> dict[str, str]:
    """What a workload rendered for this backend says of its adapters."""
    listed = [a.to_api() for a in of(backend)]
    return {ANNOTATION: json.dumps(listed, separators=(",", ":"))} if listed else {}


def started_with(live: Obj | None) -> tuple[Adapter, ...]:
    """The adapters that pods of this workload load by themselves."""
    try:
        listed = json.loads(annotations_of(live or {"metadata": {}}).get(ANNOTATION) or "[]")
        return tuple(Adapter.model_validate(a) for a in listed)
    except (ValueError, TypeError):
        return ()  # somebody wrote there: the next rollout mends it


def among(backend: LLMBackend, adapters: tuple[Adapter, ...]) -> LLMBackend:
    """The backend, as if these were its adapters."""
    (model,) = backend.spec.models
    spec = backend.spec.model_copy(update={"models": (model.model_copy(update={"adapters": adapters}),)})
    return replace(backend, spec=spec)


def needed(backend: LLMBackend, live: Obj | None) -> LLMBackend:
    """The backend with all whose files are needed: by its spec, or by pods that may start anew."""
    now, before = of(backend), started_with(live)
    gone = tuple(a for a in before if a.name not in {n.name for n in now})
    return among(backend, (*now, *gone)) if now and gone else backend


def same_pods(rendered: Obj, live: Obj | None) -> bool:
    """Would the pods stay as they are?"""
    return live is not None and drift(template(rendered), template(live)) is None


def calls(backend: LLMBackend, listed: Any, there: Collection[str]) -> tuple[Call, ...]:
    """What makes a server's adapters those of the backend. `listed`: what its `/v1/models` says; `there`: names of the
    adapters whose files are whole."""
    served = {m.name: model_path(m) for model in backend.spec.models for m in model.served[1:]}
    has = {
        str(m.get("id")): str(m.get("root"))
        for m in (listed.get("data") if isinstance(listed, dict) else None) or ()
        if isinstance(m, dict) and m.get("parent")
    }
    stale = [name for name, path in has.items() if served.get(name) != path]
    fresh = [name for name, path in served.items() if name in there and has.get(name) != path]
    return (
        *(Call("/v1/unload_lora_adapter", {"lora_name": n}, n) for n in stale),
        *(Call("/v1/load_lora_adapter", {"lora_name": n, "lora_path": served[n]}, n) for n in fresh),
    )
