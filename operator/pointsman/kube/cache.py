"""What the operator knows of the cluster: the newest version of each object that it watches.

Decided here: which of two versions is newer (resource versions are compared as numbers, as Kubernetes ≥ 1.35 promises
and etcd always did), what a whole list says about objects that it lacks. An answer to our own write goes in at once, so
that the next reconcile sees it; how objects are held: children are as many as all else together and looked at only
when their owner is visited, so that most kinds of them lie there as JSON, a quarter of their size. Not here: where
objects come from (`watch.py`).
"""

from __future__ import annotations

import collections
import sys
from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec

from pointsman.api import meta
from pointsman.kube.resources import (
    CLAIMS,
    DEPLOYMENTS,
    JOBS,
    PODS,
    SERVICES,
    Obj,
    Resource,
    labels_of,
    name_of,
    uid_of,
)

INDEXED_LABELS = (meta.BACKEND_LABEL, meta.SOURCE_LABEL, meta.COMPONENT_LABEL)
SHARED_LENGTH = 64
"""Longest text that is worth keeping once."""
TOMBSTONES = 1000
"""Deleted objects that are remembered, so that a late event does not bring them back."""


PACKED: Final = (DEPLOYMENTS, SERVICES, CLAIMS, PODS)
_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode


class _Kept:
    """An object, and of it what the cache itself asks for."""

    __slots__ = ("_obj", "_packed", "labels", "uid", "version")

    def __init__(self, obj: Obj, *, packed: bool) -> None:
        self.version = version(obj)
        self.uid = uid_of(obj)
        self.labels = tuple((label, value) for label in INDEXED_LABELS if (value := labels_of(obj).get(label)))
        self._obj = None if packed else _shared(obj)
        self._packed = _encode(obj) if packed else b""

    @property
    def obj(self) -> Obj:
        return self._obj if self._obj is not None else _decode(self._packed)


class Cache:
    """Objects by kind, namespace and name, and by the labels that say to whom they belong."""

    def __init__(self) -> None:
        self._objects: dict[str, dict[str, dict[str, _Kept]]] = {}
        self._index: dict[tuple[str, str, str, str], set[str]] = {}
        self._dead: collections.OrderedDict[str, int] = collections.OrderedDict()

    def get(self, resource: Resource, namespace: str, name: str) -> Obj | None:
        kept = self._kept(resource, namespace, name)
        return kept.obj if kept is not None else None

    def all(self, resource: Resource, namespace: str | None = None) -> Iterator[Obj]:
        spaces = self._objects.get(resource.kind, {})
        for space in list(spaces) if namespace is None else [namespace]:
            for kept in list(spaces.get(space, {}).values()):
                yield kept.obj

    def labelled(self, resource: Resource, namespace: str, label: str, value: str) -> list[Obj]:
        """The objects with one of the `INDEXED_LABELS`, by name."""
        names = self._index.get((resource.kind, namespace, label, value), ())
        return [self._objects[resource.kind][namespace][n].obj for n in sorted(names)]

    def namespaces(self, resource: Resource) -> list[str]:
        return [ns for ns, objects in self._objects.get(resource.kind, {}).items() if objects]

    def put(self, resource: Resource, obj: Obj) -> bool:
        """False when this version, or a newer one, is known already."""
        namespace, name = obj["metadata"].get("namespace", ""), name_of(obj)
        new = version(obj)
        if new <= self._dead.get(uid_of(obj), -1):
            return False
        old = self._kept(resource, namespace, name)
        if old is not None and old.version >= new:
            return False
        if old is not None:
            self._drop(resource, namespace, name, old)
        kept = _Kept(slim(resource, obj), packed=resource in PACKED)
        self._objects.setdefault(resource.kind, {}).setdefault(namespace, {})[name] = kept
        for label, value in kept.labels:
            self._index.setdefault((resource.kind, namespace, label, value), set()).add(name)
        return True

    def remove(self, resource: Resource, obj: Obj) -> bool:
        """The object is gone, as of the version in `obj`. False when a newer one of that name is known."""
        namespace, name = obj["metadata"].get("namespace", ""), name_of(obj)
        self._bury(uid_of(obj), version(obj))
        old = self._kept(resource, namespace, name)
        if old is None or (old.uid != uid_of(obj) and old.version > version(obj)):
            return False
        self._drop(resource, namespace, name, old)
        return True

    def replace(self, resource: Resource, items: Iterable[Obj], list_version: str, namespace: str | None) -> list[Obj]:
        """A whole list of a kind (of one namespace). Gives back what changed: new, changed and vanished objects."""
        changed = []
        listed = set()
        at = int(list_version or 0)
        for item in items:
            listed.add((item["metadata"].get("namespace", ""), name_of(item)))
            if self.put(resource, item):
                changed.append(item)
        spaces = self._objects.get(resource.kind, {})
        for space in list(spaces) if namespace is None else [namespace]:
            for name, old in list(spaces.get(space, {}).items()):
                if (space, name) not in listed and old.version <= at:
                    self._bury(old.uid, old.version)
                    self._drop(resource, space, name, old)
                    changed.append(old.obj)
        return changed

    def _kept(self, resource: Resource, namespace: str, name: str) -> _Kept | None:
        return self._objects.get(resource.kind, {}).get(namespace, {}).get(name)

    def _bury(self, uid: str, version: int) -> None:
        self._dead[uid] = version
        while len(self._dead) > TOMBSTONES:
            self._dead.popitem(last=False)

    def _drop(self, resource: Resource, namespace: str, name: str, kept: _Kept) -> None:
        self._objects[resource.kind][namespace].pop(name, None)
        for label, value in kept.labels:
            key = (resource.kind, namespace, label, value)
            names = self._index.get(key)
            if names is not None:
                names.discard(name)
                if not names:
                    del self._index[key]


def slim(resource: Resource, obj: Obj) -> Obj:
    """What is kept of an object: no managed fields, of pods and Jobs only what is looked at."""
    out = {**obj, "metadata": {k: v for k, v in obj["metadata"].items() if k != "managedFields"}}
    if resource is JOBS:
        out.pop("spec", None)
    elif resource is PODS:
        spec = obj.get("spec") or {}
        out["spec"] = {k: v for k, v in spec.items() if k == "nodeName"}
        if images := [v for v in spec.get("volumes") or () if "image" in v]:
            out["spec"]["volumes"] = images
    return out


def _shared(value: Any) -> Any:
    """The same, with words that stand in every object kept once: they are most of what objects of Kubernetes weigh in
    Python."""
    if isinstance(value, dict):
        return {sys.intern(k): _shared(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_shared(v) for v in value]
    if isinstance(value, str) and len(value) <= SHARED_LENGTH:
        return sys.intern(value)
    return value


def version(obj: Obj) -> int:
    """The object's resource version; 0 when it has none (a manifest)."""
    try:
        return int(obj["metadata"].get("resourceVersion") or 0)
    except ValueError:
        return 0
