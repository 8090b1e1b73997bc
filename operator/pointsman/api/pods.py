"""What of a pod a backend may choose."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from pointsman.api.base import ApiModel, Rule, Text
from pointsman.api.scalars import Quantity


class GpuVendor(StrEnum):
    """Who made a GPU: how its device plugin names resources and labels."""

    NVIDIA = "NVIDIA"
    AMD = "AMD"
    INTEL = "Intel"


VENDOR_DOMAINS = {GpuVendor.NVIDIA: "nvidia.com/", GpuVendor.AMD: "amd.com/", GpuVendor.INTEL: "gpu.intel.com/"}
"""How the resource names of each vendor's device plugin begin."""

ResourceName = Annotated[
    str,
    Text(
        r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$",
        "must be an extended resource such as nvidia.com/gpu, amd.com/gpu or nvidia.com/mig-1g.10gb",
        128,
    ),
]
ProductName = Annotated[
    str,
    Text(
        r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$",
        "must be the value of a node label such as NVIDIA-A100-SXM4-80GB",
        63,
        1,
    ),
]
ProfileName = Annotated[
    str,
    Text(
        r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$",
        "must be the name of a profile: lower-case letters, digits, '-' and '.', at most 63 characters",
        63,
        1,
    ),
]


class Gpu(ApiModel):
    """GPUs of each pod."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.profile) || !(has(self.vendor) || has(self.product) || has(self.resourceName)"
            " || has(self.memory))",
            "gpu.profile says what kind of GPU it is: remove vendor, product, resourceName and memory",
            lambda g: g.profile is None or not (g.vendor or g.product or g.resource_name or g.memory),
        ),
        Rule(
            "!has(self.product) || has(self.vendor) || !has(self.resourceName)"
            + "".join(f" || self.resourceName.startsWith('{d}')" for d in VENDOR_DOMAINS.values()),
            "gpu.product is a label of the vendor's: set gpu.vendor",
            lambda g: g.product is None or g.vendor_or_default is not None,
        ),
    )

    count: int = Field(default=1, ge=1, le=64, description="GPUs a pod gets.")
    profile: ProfileName | None = Field(
        default=None,
        description="A kind of GPU that the installation has a name for (`gpuProfiles` in the chart's values).",
    )
    vendor: GpuVendor | None = Field(
        default=None, description="Whose GPUs; by resourceName when not given, NVIDIA without that."
    )
    product: ProductName | None = Field(
        default=None,
        description="Only nodes with this product: exactly the value of the vendor's node label,"
        " nvidia.com/gpu.product, amd.com/gpu.product-name or gpu.intel.com/product.",
    )
    resource_name: ResourceName | None = Field(
        default=None,
        description="The extended resource that counts them, such as nvidia.com/mig-1g.10gb; nvidia.com/gpu,"
        " amd.com/gpu or gpu.intel.com/i915 by vendor when not given.",
    )
    memory: Quantity | None = Field(
        default=None,
        description="Memory of one GPU, for the condition Fits; by the resource's name or the nodes' labels when not"
        " given. It chooses no nodes.",
    )

    @property
    def vendor_or_default(self) -> GpuVendor | None:
        """None when the resource is nobody's that we know."""
        if self.vendor is not None or self.resource_name is None:
            return self.vendor or GpuVendor.NVIDIA
        return next((v for v, d in VENDOR_DOMAINS.items() if self.resource_name.startswith(d)), None)


class EnvVar(ApiModel):
    name: Annotated[str, Text(r"^[A-Za-z_][A-Za-z0-9_]*$", "must be the name of an environment variable", 128, 1)]
    value: Annotated[str, Field(max_length=4096)] = ""


class Resources(ApiModel):
    """Requests and limits of the engine's container."""

    requests: Annotated[dict[str, Quantity], Field(max_length=16)] = Field(default_factory=dict)
    limits: Annotated[dict[str, Quantity], Field(max_length=16)] = Field(default_factory=dict)


class Toleration(ApiModel):
    key: Annotated[str, Field(max_length=316)] | None = None
    operator: Literal["Exists", "Equal"] = "Equal"
    value: Annotated[str, Field(max_length=63)] | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    toleration_seconds: int | None = Field(default=None, ge=0)
