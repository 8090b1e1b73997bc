"""References to objects of the same namespace."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from pointsman.api.base import ApiModel
from pointsman.api.scalars import ObjectName, SecretKey


class SecretRef(ApiModel):
    """One key of a Secret in the same namespace."""

    name: ObjectName = Field(description="The Secret's name.")
    key: SecretKey = Field(default="api-key", description="The key in it.")


class LocalRef(ApiModel):
    name: ObjectName = Field(description="The object's name.")


class BundleKind(StrEnum):
    CONFIG_MAP = "ConfigMap"
    SECRET = "Secret"  # noqa: S105  the name of a kind


class CaBundleRef(ApiModel):
    """One key of a ConfigMap or Secret in the same namespace, with certificates in PEM."""

    kind: BundleKind = Field(default=BundleKind.CONFIG_MAP, description="What holds the bundle.")
    name: ObjectName = Field(description="Its name.")
    key: SecretKey = Field(default="ca.crt", description="The key in it.")
