"""What the pods of a backend compute on, as far as the choice of an image goes. Pure."""

from __future__ import annotations

from typing import Literal

from pointsman.api.backend import LLMBackendSpec
from pointsman.api.pods import VENDOR_DOMAINS
from pointsman.controllers.workload import template
from pointsman.kube.resources import Obj

Hardware = Literal["CPU", "NVIDIA", "AMD", "Intel"]


def wanted(spec: LLMBackendSpec) -> Hardware | None:
    """None for GPUs of a vendor that nobody knows."""
    if spec.gpu is None:
        return "CPU"
    vendor = spec.gpu.vendor_or_default
    return None if vendor is None else vendor.value


def running(live: Obj | None) -> Hardware | None:
    """What the pods of a workload got last; None where that is not to be seen."""
    try:
        container = template(live)["spec"]["containers"][0]
    except (KeyError, IndexError):
        return None
    resources = [name for name in (container.get("resources") or {}).get("limits") or {} if "/" in name]
    if not resources:
        return "CPU"
    return next((v.value for v, domain in VENDOR_DOMAINS.items() if resources[0].startswith(domain)), None)


def changed(spec: LLMBackendSpec, live: Obj | None) -> bool:
    """Do the pods move from one kind of hardware to another, so that another image may be needed?"""
    before, after = running(live), wanted(spec)
    return before is not None and after is not None and before != after
