"""Where a backend's models lie: in a volume, or among the images of the nodes."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from pydantic import Field

from pointsman.api.base import ApiModel, Rule
from pointsman.api.scalars import ObjectName, Quantity

DEFAULT_SIZE = "50Gi"


class AccessMode(StrEnum):
    READ_WRITE_ONCE = "ReadWriteOnce"
    READ_WRITE_MANY = "ReadWriteMany"


class StorageMode(StrEnum):
    SHARED = "Shared"
    PER_POD = "PerPod"
    IMAGE = "Image"


class Storage(ApiModel):
    """The volume that holds the models."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.mode == 'Shared' || !has(self.existingClaim)",
            "existingClaim belongs to mode Shared: with PerPod each pod has a volume of its own, with Image there"
            " is none",
            lambda s: s.mode is StorageMode.SHARED or s.existing_claim is None,
        ),
        Rule(
            "self.mode == 'Shared' || (self.accessMode == 'ReadWriteOnce' && !self.retain)",
            "accessMode and retain belong to mode Shared: with PerPod each pod's volume goes with it, with Image"
            " there is none",
            lambda s: s.mode is StorageMode.SHARED or (s.access_mode is AccessMode.READ_WRITE_ONCE and not s.retain),
        ),
        Rule(
            "self.mode != 'Image' || (!has(self.storageClassName) && self.size == '50Gi')",
            "with mode Image models lie among the images of each node: remove size and storageClassName",
            lambda s: s.mode is not StorageMode.IMAGE or (s.storage_class_name is None and s.size == DEFAULT_SIZE),
        ),
        Rule(
            "!has(self.existingClaim) || !has(self.storageClassName)",
            "existingClaim brings its own storage class: remove storageClassName",
            lambda s: s.existing_claim is None or s.storage_class_name is None,
        ),
    )

    mode: StorageMode = Field(
        default=StorageMode.SHARED,
        description="Shared: one volume for all pods of the backend, filled once. PerPod: each pod has a volume of its"
        " own, which it fills before its engine starts and which goes with it; pods may be on any node."
        " Image: models are images (oci://), which each node pulls once, keeps while it has room, and mounts read-only"
        " into all pods there; the cluster must have image volumes.",
    )
    size: Quantity = Field(default=DEFAULT_SIZE, description="Size of the volume; it may grow, never shrink.")
    storage_class_name: ObjectName | None = Field(
        default=None, description="Storage class; the cluster's default when not given."
    )
    access_mode: AccessMode = Field(
        default=AccessMode.READ_WRITE_ONCE,
        description="ReadWriteOnce keeps all pods on one node; ReadWriteMany lets them spread.",
    )
    existing_claim: ObjectName | None = Field(
        default=None,
        description="Use this claim. Backends that name one claim share their downloads. It is never deleted.",
    )
    retain: bool = Field(default=False, description="Keep the claim and the models in it when the backend is deleted.")
