"""Whose is an object that has the name of one of our children? Pure.

Invariant: what is not ours is never written to. Ours is what carries the backend's UID, as an owner reference or in our
annotation (somebody may have removed the reference), and a claim that an earlier backend of that name was told to
retain.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

from pointsman.api import meta
from pointsman.api.objects import LLMBackend
from pointsman.kube.resources import Obj, annotations_of, labels_of, owner_uids

OWNER_ANNOTATION = f"{meta.GROUP}/owner"
"""UID of the LLMBackend that an object was made for."""


class Whose(Enum):
    OURS = "ours"
    PREDECESSOR = "predecessor"
    """Of a deleted backend of the same name: about to be collected."""
    FOREIGN = "foreign"


def whose(obj: Obj, backend: LLMBackend) -> Whose:
    if backend.meta.uid in owner_uids(obj) or annotations_of(obj).get(OWNER_ANNOTATION) == backend.meta.uid:
        return Whose.OURS
    labelled = labels_of(obj).get(meta.MANAGED_BY_LABEL) == meta.MANAGED_BY and (
        labels_of(obj).get(meta.BACKEND_LABEL) == backend.meta.name
    )
    owners = obj["metadata"].get("ownerReferences") or ()
    if labelled and obj["kind"] == "PersistentVolumeClaim" and not owners:
        return Whose.OURS  # retained
    if any(o.get("kind") == meta.BACKEND_KIND and o.get("name") == backend.meta.name for o in owners):
        return Whose.PREDECESSOR
    return Whose.FOREIGN


def owner_reference(backend: LLMBackend, *, controller: bool = True) -> Mapping[str, Any]:
    """Deletion of the owner never waits for the child: a volume that never bound must not hold it up."""
    return {
        "apiVersion": meta.API_VERSION,
        "kind": meta.BACKEND_KIND,
        "name": backend.meta.name,
        "uid": backend.meta.uid,
        "controller": controller,
        "blockOwnerDeletion": False,
    }
