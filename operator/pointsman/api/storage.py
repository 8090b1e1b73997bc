"""The volume that holds a backend's models."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from pydantic import Field

from pointsman.api.base import ApiModel, Rule
from pointsman.api.scalars import ObjectName, Quantity


class AccessMode(StrEnum):
    READ_WRITE_ONCE = "ReadWriteOnce"
    READ_WRITE_MANY = "ReadWriteMany"


class Storage(ApiModel):
    """The volume that holds the models; one for all pods of the backend."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.existingClaim) || !has(self.storageClassName)",
            "existingClaim brings its own storage class: remove storageClassName",
            lambda s: s.existing_claim is None or s.storage_class_name is None,
        ),
    )

    size: Quantity = Field(default="50Gi", description="Size of the volume; it may grow, never shrink.")
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
