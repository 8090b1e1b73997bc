"""How many pods a backend has when the requests decide."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from pointsman.api.base import ApiModel, Rule
from pointsman.api.scalars import Duration, seconds

DEFAULT_IDLE_AFTER = "10m"


class Autoscaling(ApiModel):
    """The number of pods follows the requests that the gateways see."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.minReplicas <= self.maxReplicas",
            "autoscaling.minReplicas must not be more than autoscaling.maxReplicas",
            lambda s: s.min_replicas <= s.max_replicas,
        ),
        Rule(
            "!has(self.idleAfter) || self.minReplicas == 0",
            "autoscaling.idleAfter is when the last pod goes: it needs autoscaling.minReplicas 0",
            lambda s: s.idle_after is None or s.min_replicas == 0,
        ),
    )

    min_replicas: int = Field(
        default=1, ge=0, le=256, description="Pods there are at least. 0: none while nobody asks (`idleAfter`)."
    )
    max_replicas: int = Field(ge=1, le=256, description="Pods there are at most.")
    target_in_flight: int = Field(
        ge=1,
        le=65536,
        description="Requests for each pod that the number of pods aims at: those in flight and those that wait for a"
        " slot, of all gateways together.",
    )
    idle_after: Duration | None = Field(
        default=None,
        description="Time without any request after which the last pod goes (`minReplicas` 0);"
        f" {DEFAULT_IDLE_AFTER} when not given. Checks do not count. The next request brings a pod back.",
    )
    scale_up_window: Duration = Field(
        default="15s", description="More pods come by the mean of the requests over this time."
    )
    scale_down_window: Duration = Field(
        default="5m", description="Pods go when this many were not needed at any moment of this time."
    )

    @property
    def idle_seconds(self) -> float:
        return seconds(self.idle_after or DEFAULT_IDLE_AFTER)
