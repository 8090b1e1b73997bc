"""Which GPUs a backend's pods ask for, and how its nodes are known. Pure.

Decided here: resource names, labels and tolerations of each vendor, what a profile of the installation stands for, how
much memory a GPU has. Not here: what is done with it (`base.py`), why a pod has no node (`controllers/placing.py`).

Facts, from the vendors' documents:
- NVIDIA (device plugin, GPU feature discovery): `nvidia.com/gpu.product`, `nvidia.com/gpu.memory` in MiB; with MIG
  strategy "mixed" one resource for each profile, `nvidia.com/mig-1g.10gb`, and its labels below that name; a GPU that
  is shared in time is `nvidia.com/gpu.shared` where the plugin renames it, and its product ends with `-SHARED` where
  it does not; `nvidia.com/gpu.sharing-strategy` is none, time-slicing or mps (which divides the memory), among
  `nvidia.com/gpu.replicas`.
- AMD (node labeller): `amd.com/gpu.product-name`, `amd.com/gpu.vram` such as 64G (GiB).
- Intel (rules of node feature discovery): `gpu.intel.com/product`, for data centre GPUs; no label says the memory. Its
  resource is `gpu.intel.com/i915`, or `gpu.intel.com/xe` with the newer kernel driver.
Nodes with GPUs are commonly tainted with the name of the vendor's resource.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from pointsman.api.backend import LLMBackendSpec
from pointsman.api.base import ApiModel
from pointsman.api.pods import VENDOR_DOMAINS, Gpu, GpuVendor, ProductName, ResourceName, Toleration
from pointsman.api.scalars import ObjectName, Quantity, amount

RESOURCES: Mapping[GpuVendor, str] = {
    GpuVendor.NVIDIA: "nvidia.com/gpu",
    GpuVendor.AMD: "amd.com/gpu",
    GpuVendor.INTEL: "gpu.intel.com/i915",
}
"""A whole GPU of each vendor."""
PRODUCT_LABELS: Mapping[GpuVendor, str] = {
    GpuVendor.NVIDIA: "nvidia.com/gpu.product",
    GpuVendor.AMD: "amd.com/gpu.product-name",
    GpuVendor.INTEL: "gpu.intel.com/product",
}
_MIG = re.compile(r"^nvidia\.com/mig-\d+g\.(\d+)gb")


class GpuProfile(ApiModel):
    """A kind of GPU that an installation gives a name: what a backend need not repeat."""

    vendor: GpuVendor | None = None
    product: ProductName | None = None
    resource_name: ResourceName | None = None
    memory: Quantity | None = None
    node_selector: Annotated[dict[str, str], Field(max_length=16)] = Field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()
    runtime_class_name: ObjectName | None = None


class UnknownGpu(Exception):
    """The spec's GPUs cannot be made out. The text is one sentence that says what to do."""


@dataclass(frozen=True)
class GpuNeed:
    """The GPUs of one pod."""

    resource: str
    count: int
    vendor: GpuVendor | None
    product: str
    """Value of the vendor's product label; empty: any."""
    memory: int | None
    """Bytes of one GPU, where the spec or the resource's name says it."""

    @property
    def product_label(self) -> str:
        return PRODUCT_LABELS.get(self.vendor, "") if self.vendor else ""


def need(gpu: Gpu) -> GpuNeed:
    """What a spec without a profile asks for."""
    vendor = gpu.vendor_or_default
    resource = gpu.resource_name or RESOURCES[vendor or GpuVendor.NVIDIA]
    memory = int(amount(gpu.memory)) if gpu.memory else None
    if memory is None and (mig := _MIG.match(resource)):
        memory = int(mig[1]) << 30
    return GpuNeed(resource, gpu.count, vendor, gpu.product or "", memory)


def resolve(spec: LLMBackendSpec, profiles: Mapping[str, GpuProfile]) -> LLMBackendSpec:
    """The spec with its profile written out: what the spec itself says goes before it. Raises `UnknownGpu`."""
    gpu = spec.gpu
    if gpu is None:
        return spec
    changes: dict[str, object] = {}
    if gpu.profile is not None:
        profile = profiles.get(gpu.profile)
        if profile is None:
            known = ", ".join(sorted(profiles)) or "none"
            raise UnknownGpu(
                f"spec.gpu.profile: there is no profile {gpu.profile} (the installation has: {known}): write one of"
                " these, or ask for it in the chart's gpuProfiles"
            )
        gpu = Gpu(
            count=gpu.count,
            vendor=profile.vendor,
            product=profile.product,
            resource_name=profile.resource_name,
            memory=profile.memory,
        )
        selector = {**profile.node_selector, **(spec.node_selector or {})}
        tolerations = (*profile.tolerations, *(t for t in spec.tolerations or () if t not in profile.tolerations))
        changes = {
            "gpu": gpu,
            "node_selector": selector or None,
            "tolerations": tolerations or None,
            "runtime_class_name": spec.runtime_class_name or profile.runtime_class_name,
        }
        spec = spec.model_copy(update=changes)
    wanted = need(gpu)
    said = (spec.node_selector or {}).get(wanted.product_label)
    if wanted.product and said not in (None, wanted.product):
        raise UnknownGpu(
            f"spec.nodeSelector wants {wanted.product_label}={said}, spec.gpu.product {wanted.product}: keep one"
        )
    return spec


def node_selector(gpu: Gpu) -> dict[str, str]:
    """Labels of the nodes that have the product."""
    wanted = need(gpu)
    return {wanted.product_label: wanted.product} if wanted.product else {}


def tolerations(gpu: Gpu) -> list[dict[str, str]]:
    """For the taints that keep other pods off nodes with such GPUs."""
    wanted = need(gpu)
    keys = dict.fromkeys((wanted.resource, RESOURCES[wanted.vendor] if wanted.vendor else wanted.resource))
    return [{"key": key, "operator": "Exists", "effect": "NoSchedule"} for key in keys]


def is_gpu(resource: str) -> bool:
    """Does an extended resource of a node count GPUs, by its name?"""
    return resource.startswith(tuple(VENDOR_DOMAINS.values()))


def memory_of(resource: str, vendor: GpuVendor | None, labels: Mapping[str, str]) -> int | None:
    """Bytes that one unit of `resource` may use on a node with these labels; None when no label says it."""
    if vendor is GpuVendor.AMD:
        found = re.fullmatch(r"(\d+)G", labels.get("amd.com/gpu.vram", ""))
        return int(found[1]) << 30 if found else None
    if vendor is not GpuVendor.NVIDIA:
        return None
    mib = labels.get(f"{resource}.memory") or labels.get("nvidia.com/gpu.memory", "")
    if not mib.isdigit():
        return None
    replicas = labels.get("nvidia.com/gpu.replicas", "1")
    divided = labels.get("nvidia.com/gpu.sharing-strategy") == "mps" and replicas.isdigit() and int(replicas) > 1
    return (int(mib) << 20) // (int(replicas) if divided else 1)
