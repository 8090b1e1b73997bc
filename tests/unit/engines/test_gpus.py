"""Which GPUs a spec means, and how much memory they have."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.controllers.cluster import backend

from pointsman.api.pods import Gpu, GpuVendor
from pointsman.engines import gpus
from pointsman.engines.base import placement
from pointsman.engines.gpus import GpuProfile, UnknownGpu, memory_of, need, resolve

A100 = "NVIDIA-A100-SXM4-80GB"
PROFILE = GpuProfile.model_validate(
    {
        "vendor": "NVIDIA", "product": A100, "memory": "80Gi", "resourceName": "nvidia.com/gpu.shared",
        "nodeSelector": {"pool": "gpu", "zone": "a"}, "tolerations": [{"key": "dedicated", "operator": "Exists"}],
        "runtimeClassName": "nvidia",
    }
)  # fmt: skip


@pytest.mark.parametrize(
    ("gpu", "resource", "vendor"),
    [
        ({}, "nvidia.com/gpu", GpuVendor.NVIDIA),
        ({"vendor": "AMD"}, "amd.com/gpu", GpuVendor.AMD),
        ({"vendor": "Intel"}, "gpu.intel.com/i915", GpuVendor.INTEL),
        ({"resourceName": "gpu.intel.com/xe"}, "gpu.intel.com/xe", GpuVendor.INTEL),
        ({"resourceName": "nvidia.com/gpu.shared"}, "nvidia.com/gpu.shared", GpuVendor.NVIDIA),
        ({"resourceName": "example.com/gpu"}, "example.com/gpu", None),
        ({"resourceName": "example.com/gpu", "vendor": "NVIDIA"}, "example.com/gpu", GpuVendor.NVIDIA),
    ],
)
def test_vendor_and_resource_say_each_other(gpu: dict[str, Any], resource: str, vendor: GpuVendor | None) -> None:
    wanted = need(Gpu.model_validate(gpu))
    assert (wanted.resource, wanted.vendor, wanted.count) == (resource, vendor, 1)


@pytest.mark.parametrize(
    ("gpu", "gib"),
    [
        ({}, None),
        ({"memory": "24Gi"}, 24),
        ({"resourceName": "nvidia.com/mig-1g.10gb"}, 10),
        ({"resourceName": "nvidia.com/mig-1g.10gb.me"}, 10),
        ({"resourceName": "nvidia.com/mig-3g.40gb", "memory": "39Gi"}, 39),
    ],
)
def test_memory_that_the_spec_says(gpu: dict[str, Any], gib: int | None) -> None:
    assert need(Gpu.model_validate(gpu)).memory == (None if gib is None else gib << 30)


@pytest.mark.parametrize(
    ("resource", "vendor", "labels", "mib"),
    [
        ("nvidia.com/gpu", GpuVendor.NVIDIA, {"nvidia.com/gpu.memory": "81559"}, 81559),
        ("nvidia.com/gpu", GpuVendor.NVIDIA, {}, None),
        ("nvidia.com/mig-1g.10gb", GpuVendor.NVIDIA,
         {"nvidia.com/gpu.memory": "81559", "nvidia.com/mig-1g.10gb.memory": "9728"}, 9728),
        ("nvidia.com/gpu", GpuVendor.NVIDIA,
         {"nvidia.com/gpu.memory": "40000", "nvidia.com/gpu.replicas": "4",
          "nvidia.com/gpu.sharing-strategy": "mps"}, 10000),
        ("nvidia.com/gpu", GpuVendor.NVIDIA,
         {"nvidia.com/gpu.memory": "40000", "nvidia.com/gpu.replicas": "4",
          "nvidia.com/gpu.sharing-strategy": "time-slicing"}, 40000),
        ("amd.com/gpu", GpuVendor.AMD, {"amd.com/gpu.vram": "64G"}, 65536),
        ("gpu.intel.com/xe", GpuVendor.INTEL, {"gpu.intel.com/product": "Max_1550"}, None),
    ],
)  # fmt: skip
def test_memory_that_a_node_says(resource: str, vendor: GpuVendor, labels: dict[str, str], mib: int | None) -> None:
    assert memory_of(resource, vendor, labels) == (None if mib is None else mib << 20)


def test_profile_is_written_out_and_the_spec_goes_before_it() -> None:
    own = {"gpu": {"profile": "a100", "count": 2}, "nodeSelector": {"zone": "b"},
           "tolerations": [{"key": "mine", "operator": "Exists"}]}  # fmt: skip
    spec = resolve(backend(own).spec, {"a100": PROFILE})
    assert spec.gpu is not None
    assert need(spec.gpu) == gpus.GpuNeed("nvidia.com/gpu.shared", 2, GpuVendor.NVIDIA, A100, 80 << 30)
    where = placement(spec, None)
    assert where["nodeSelector"] == {"pool": "gpu", "zone": "b", "nvidia.com/gpu.product": A100}
    assert [t["key"] for t in where["tolerations"]] == [
        "dedicated", "mine", "nvidia.com/gpu.shared", "nvidia.com/gpu",
    ]  # fmt: skip
    assert where["runtimeClassName"] == "nvidia"


def test_without_a_profile_nothing_changes() -> None:
    spec = backend({"gpu": {"count": 1}}).spec
    assert resolve(spec, {"a100": PROFILE}) is spec


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ({"gpu": {"profile": "h100"}}, "there is no profile h100 (the installation has: a100)"),
        ({"gpu": {"product": "X"}, "nodeSelector": {"nvidia.com/gpu.product": "Y"}}, "keep one"),
    ],
)
def test_what_cannot_be_made_out_is_one_sentence(spec: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UnknownGpu) as error:
        resolve(backend(spec).spec, {"a100": PROFILE})
    assert sentence in str(error.value)
