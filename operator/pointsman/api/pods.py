"""What of a pod a backend may choose."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pointsman.api.base import ApiModel, Text
from pointsman.api.scalars import Quantity


class Gpu(ApiModel):
    """GPUs of each pod."""

    count: int = Field(ge=1, le=64, description="GPUs a pod gets.")
    resource_name: Annotated[
        str,
        Text(
            r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$",
            "must be an extended resource such as nvidia.com/gpu, amd.com/gpu or nvidia.com/mig-1g.10gb",
            128,
        ),
    ] = Field(default="nvidia.com/gpu", description="The extended resource that counts them.")


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
