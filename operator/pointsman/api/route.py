"""ModelRoute: the model names that clients ask for, and the targets that may answer."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from pointsman.api.base import ApiModel, ListMap, StatusModel
from pointsman.api.conditions import Condition
from pointsman.api.scalars import DnsLabel, Duration, ModelName


class FallbackMode(StrEnum):
    AUTO = "Auto"
    NONE = "None"


class WhenAllUnhealthy(StrEnum):
    TRY_ONE = "TryOne"
    FAIL = "Fail"


class Target(ApiModel):
    """A backend's model that may answer for the route."""

    backend: DnsLabel = Field(description="Name of an LLMBackend in the same namespace.")
    model: ModelName = Field(description="Name of one of its models.")
    priority: int = Field(default=0, ge=0, le=15, description="Lower numbers are tried first.")


class Fallback(ApiModel):
    """What happens when a target cannot answer."""

    mode: FallbackMode = Field(
        default=FallbackMode.AUTO,
        description="Auto moves on to the next target; None gives the first target's failure back.",
    )
    max_attempts: int = Field(
        default=3, ge=1, le=16, description="Attempts for one request; a refused connection costs none."
    )
    when_all_unhealthy: WhenAllUnhealthy = Field(
        default=WhenAllUnhealthy.TRY_ONE,
        description="TryOne tries the least bad target although every one is unhealthy; Fail answers 503 at once.",
    )


class Timeouts(ApiModel):
    """How long to wait, per attempt and in all."""

    connect: Duration = Field(default="2s", description="For a connection to a target.")
    first_token: Duration = Field(default="60s", description="For the first content of a stream.")
    answer: Duration | None = Field(default=None, description="For a whole JSON answer; total when not given.")
    idle: Duration = Field(default="120s", description="Between two tokens of a stream.")
    total: Duration = Field(default="10m", description="For the request with all its attempts.")


class ModelRouteSpec(ApiModel):
    """What a ModelRoute should be."""

    models: Annotated[tuple[ModelName, ...], Field(min_length=1, max_length=32)] = Field(
        description="The model names that clients ask for.", json_schema_extra={"x-kubernetes-list-type": "set"}
    )
    targets: Annotated[tuple[Target, ...], Field(min_length=1, max_length=16)] = Field(
        description="Who may answer, by priority, then in this order."
    )
    fallback: Fallback = Field(default=Fallback(), description="What happens when a target cannot answer.")
    timeouts: Timeouts = Field(default=Timeouts(), description="How long to wait.")


class TargetStatus(StatusModel):
    backend: str
    model: str
    state: str
    """`Ready`, `Unknown`, or why it cannot serve."""
    reason: str = ""
    since: str = ""


class LastFallback(StatusModel):
    """The newest time a request moved on from one target to another."""

    at: str
    from_backend: str
    to_backend: str
    reason: str
    request_id: str = ""


class ModelRouteStatus(StatusModel):
    observed_generation: int = 0
    conditions: Annotated[tuple[Condition, ...], ListMap("type", max_items=16)] = ()
    targets: Annotated[tuple[TargetStatus, ...], Field(max_length=16)] = ()
    targets_summary: str = ""
    """For printer columns: `2/3` targets that could serve now."""
    last_fallback: LastFallback | None = None
