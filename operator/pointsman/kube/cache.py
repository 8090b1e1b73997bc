"""What the operator knows of the cluster: the newest version of each object that it watches.

Decided here: which of two versions is newer (resource versions are compared as numbers, as Kubernetes ≥ 1.35 promises
and etcd always did), what a whole list says about objects that it lacks. An answer to our own write goes in at once, so
that the next reconcile sees it. Not here: where objects come from (`watch.py`).
"""

from __future__ import annotations

import collections
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from pointsman.api import meta
from pointsman.kube.resources import JOBS, PODS, Obj, Resource, labels_of, name_of, uid_of

INDEXED_LABELS = (meta.BACKEND_LABEL, meta.SOURCE_LABEL, meta.COMPONENT_LABEL)
SHARED_LENGTH = 64
"""Longest text that is worth keeping once."""
TOMBSTONES = 1000
"""Deleted objects that are remembered, so that a late event does not bring them back."""


class Cache:
    """Objects by kind, namespace and name, and by the labels that say to whom they belong."""

    def __init__(self) -> None:
        self._objects: dict[str, dict[str, dict[str, Obj]]] = {}
        self._index: dict[tuple[str, str, str, str], set[str]] = {}
        self._dead: collections.OrderedDict[str, int] = collections.OrderedDict()

    def get(self, resource: Resource, namespace: str, name: str) -> Obj | None:
        return self._objects.get(resource.kind, {}).get(namespace, {}).get(name)

    def all(self, resource: Resource, namespace: str | None = None) -> Iterator[Obj]:
        spaces = self._objects.get(resource.kind, {})
        for space in list(spaces) if namespace is None else [namespace]:
            yield from list(spaces.get(space, {}).values())

    def labelled(self, resource: Resource, namespace: str, label: str, value: str) -> list[Obj]:
        """The objects with one of the `INDEXED_LABELS`, by name."""
        names = self._index.get((resource.kind, namespace, label, value), ())
        return [self._objects[resource.kind][namespace][n] for n in sorted(names)]

    def namespaces(self, resource: Resource) -> list[str]:
        return [ns for ns, objects in self._objects.get(resource.kind, {}).items() if objects]

    def put(self, resource: Resource, obj: Obj) -> bool:
        """False when this version, or a newer one, is known already."""
        namespace, name = obj["metadata"].get("namespace", ""), name_of(obj)
        new = version(obj)
        if new <= self._dead.get(uid_of(obj), -1):
            return False
        old = self.get(resource, namespace, name)
        if old is not None and version(old) >= new:
            return False
        if old is not None:
            self._drop(resource, old)
        obj = slim(resource, obj)
        self._objects.setdefault(resource.kind, {}).setdefault(namespace, {})[name] = obj
        for label in INDEXED_LABELS:
            if value := labels_of(obj).get(label):
                self._index.setdefault((resource.kind, namespace, label, value), set()).add(name)
        return True

    def remove(self, resource: Resource, obj: Obj) -> bool:
        """The object is gone, as of the version in `obj`. False when a newer one of that name is known."""
        self._bury(obj)
        old = self.get(resource, obj["metadata"].get("namespace", ""), name_of(obj))
        if old is None or (uid_of(old) != uid_of(obj) and version(old) > version(obj)):
            return False
        self._drop(resource, old)
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
        for old in list(self.all(resource, namespace)):
            if (old["metadata"].get("namespace", ""), name_of(old)) not in listed and version(old) <= at:
                self._bury(old)
                self._drop(resource, old)
                changed.append(old)
        return changed

    def _bury(self, obj: Obj) -> None:
        self._dead[uid_of(obj)] = version(obj)
        while len(self._dead) > TOMBSTONES:
            self._dead.popitem(last=False)

    def _drop(self, resource: Resource, obj: Obj) -> None:
        namespace, name = obj["metadata"].get("namespace", ""), name_of(obj)
        self._objects[resource.kind][namespace].pop(name, None)
        for label in INDEXED_LABELS:
            if value := labels_of(obj).get(label):
                key = (resource.kind, namespace, label, value)
                names = self._index.get(key)
                if names is not None:
                    names.discard(name)
                    if not names:
                        del self._index[key]


def slim(resource: Resource, obj: Obj) -> Obj:
    """What is kept of an object: no managed fields, of pods and Jobs only what is looked at; words that stand in every
    object are kept once (they are most of what objects of Kubernetes weigh in Python)."""
    out = {**obj, "metadata": {k: v for k, v in obj["metadata"].items() if k != "managedFields"}}
    if resource is JOBS:
        out.pop("spec", None)
    elif resource is PODS:
        spec = obj.get("spec") or {}
        out["spec"] = {k: v for k, v in spec.items() if k == "nodeName"}
        if images := [v for v in spec.get("volumes") or () if "image" in v]:
            out["spec"]["volumes"] = images
    kept = _shared(out)
    assert isinstance(kept, dict)
    return kept


def _shared(value: Any) -> Any:
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
