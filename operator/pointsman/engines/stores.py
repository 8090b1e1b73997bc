"""Where the models of a backend's pods lie: one volume for all of them, one that each pod fills for itself, or images
that the pod's node keeps. Pure.

Decided here: the volume of a pod, and whether its pods must be on one node. Not here: who fills it
(`controllers/pull_job.py`), what lies where in it (`api/sources/place.py`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, ClassVar

VOLUME = "store"
"""The volume's name in each pod."""


@dataclass(frozen=True)
class Store:
    """The volume that the pods of a backend share; Jobs fill it."""

    claim: str
    """Name of the PersistentVolumeClaim."""
    one_node: bool
    """True when all pods with this claim must be on one node (ReadWriteOnce)."""
    mounted: bool = True
    """False when nothing is pulled: the claim is that of `pvc://`, which pods mount as that."""

    @property
    def label(self) -> str:
        """Value of the volume label: the claim's name, shortened with a digest where a label has no room for it."""
        if len(self.claim) <= 63:
            return self.claim
        return f"{self.claim[:52].rstrip('-.')}-{hashlib.sha256(self.claim.encode()).hexdigest()[:10]}"

    def volume(self) -> dict[str, Any]:
        return {"name": VOLUME, "persistentVolumeClaim": {"claimName": self.claim}}


@dataclass(frozen=True)
class OwnStore:
    """A volume that comes and goes with each pod, which fills it before its engine starts."""

    size: str
    storage_class: str | None
    mounted: ClassVar[bool] = True

    def volume(self) -> dict[str, Any]:
        """A generic ephemeral volume: its claim belongs to the pod, and the scheduler sees its size."""
        spec: dict[str, Any] = {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": self.size}},
        }
        if self.storage_class:
            spec["storageClassName"] = self.storage_class
        return {"name": VOLUME, "ephemeral": {"volumeClaimTemplate": {"spec": spec}}}


@dataclass(frozen=True)
class ImageStore:
    """Models are images, each a volume of its own (`attached.py`). The store has only links to what was found in them,
    so that an engine finds its models by the same paths as ever."""

    mounted: ClassVar[bool] = True

    def volume(self) -> dict[str, Any]:
        return {"name": VOLUME, "emptyDir": {}}


AnyStore = Store | OwnStore | ImageStore


def volumes(store: AnyStore | None) -> list[dict[str, Any]]:
    """The store's volume in a pod, where it has one."""
    return [store.volume()] if store is not None and store.mounted else []


def without_store(container: dict[str, Any], store: AnyStore | None) -> dict[str, Any]:
    """The container as it is in a pod with this store: it mounts none where there is none."""
    if store is not None and store.mounted:
        return container
    return {**container, "volumeMounts": [m for m in container["volumeMounts"] if m["name"] != VOLUME]}
