"""Which keys a change concerns: an object that changed → what must be reconciled. Pure but for the cache it looks into.

A key names a resource of ours, or something of a whole namespace: its gateway, or the model names its routes share.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from pointsman.api import meta
from pointsman.kube.cache import Cache
from pointsman.kube.resources import BACKENDS, JOBS, ROUTES, Obj, Resource, labels_of, name_of

DELAYS: Mapping[str, float] = {"Gateway": 0.05, "Names": 0.3}
"""Seconds: what concerns a whole namespace waits for the rest of a burst."""
AHEAD = 60.0
"""A spec that nobody has seen yet goes before what has been due for up to so many seconds: of thousands of objects that
are visited after a start, those that somebody has just changed come first."""


@dataclass(frozen=True)
class Key:
    kind: Literal["LLMBackend", "ModelRoute", "Gateway", "Names"]
    namespace: str
    name: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}".rstrip("/")


def keys_of(resource: Resource, obj: Obj, cache: Cache) -> Iterator[Key]:
    """`obj`: the changed or deleted object."""
    namespace, name = obj["metadata"].get("namespace", ""), name_of(obj)
    component = labels_of(obj).get(meta.COMPONENT_LABEL)
    if resource is BACKENDS:
        yield Key("LLMBackend", namespace, name)
        yield Key("Gateway", namespace)
        yield from _routes(namespace, cache, name)
    elif resource is ROUTES:
        yield Key("ModelRoute", namespace, name)
        yield Key("Gateway", namespace)
        yield Key("Names", namespace)  # a route that is gone, or older, changes who has a name
    elif component == "gateway":
        yield Key("Gateway", namespace)
        if resource.kind == "Pod":
            for key in everything_in(namespace, cache):
                if key.kind != "Gateway":
                    yield key
    elif component == "pull":
        job = obj if resource is JOBS else cache.get(JOBS, namespace, labels_of(obj).get(meta.SOURCE_LABEL, ""))
        for owner in (job or {}).get("metadata", {}).get("ownerReferences") or ():
            if owner.get("kind") == meta.BACKEND_KIND:
                yield Key("LLMBackend", namespace, owner["name"])
    elif (backend := labels_of(obj).get(meta.BACKEND_LABEL)) is not None:
        yield Key("LLMBackend", namespace, backend)
    elif name.startswith(meta.CHILD_PREFIX):
        yield Key("LLMBackend", namespace, name.removeprefix(meta.CHILD_PREFIX))
    elif name.startswith(meta.GATEWAY_NAME) or name == meta.REPORT_SECRET:
        yield Key("Gateway", namespace)


def delay(key: Key, obj: Obj) -> float:
    """Seconds until `key` is due after a change of `obj`."""
    if obj.get("kind") == key.kind and name_of(obj) == key.name:
        observed = (obj.get("status") or {}).get("observedGeneration")
        return 0.0 if observed == obj["metadata"].get("generation") else -AHEAD
    return DELAYS.get(key.kind, 0.0)


def everything_in(namespace: str, cache: Cache) -> Iterator[Key]:
    for body in cache.all(BACKENDS, namespace):
        yield Key("LLMBackend", namespace, name_of(body))
    for body in cache.all(ROUTES, namespace):
        yield Key("ModelRoute", namespace, name_of(body))
    yield Key("Gateway", namespace)


def _routes(namespace: str, cache: Cache, backend: str) -> Iterator[Key]:
    """The routes that name the backend."""
    for body in cache.all(ROUTES, namespace):
        spec = body.get("spec") or {}
        lists = (spec.get("targets"), *(rule.get("targets") for rule in spec.get("rules") or ()))
        if any(t.get("backend") == backend for listed in lists for t in listed or ()):
            yield Key("ModelRoute", namespace, name_of(body))
