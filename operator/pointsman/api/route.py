"""ModelRoute: the model names that clients ask for, and the targets that may answer."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from pointsman.api.base import ApiModel, ListMap, Rule, StatusModel
from pointsman.api.conditions import Condition
from pointsman.api.scalars import DnsLabel, Duration, ModelName


class FallbackMode(StrEnum):
    AUTO = "Auto"
    NONE = "None"


class WhenAllUnhealthy(StrEnum):
    TRY_ONE = "TryOne"
    FAIL = "Fail"


class WhileCold(StrEnum):
    USE_NEXT = "UseNext"
    HOLD = "Hold"


DEFAULT_HOLD_TIMEOUT = "5m"
DEFAULT_MAX_HELD = 100


class Target(ApiModel):
    """A backend's model that may answer for the route."""

    backend: DnsLabel = Field(description="Name of an LLMBackend in the same namespace.")
    model: ModelName = Field(description="Name of one of its models.")
    priority: int = Field(default=0, ge=0, le=15, description="Lower numbers are tried first.")


class Fallback(ApiModel):
    """What happens when a target cannot answer."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "(has(self.whileCold) && self.whileCold == 'Hold') || !(has(self.holdTimeout) || has(self.maxHeld))",
            "holdTimeout and maxHeld belong to whileCold: Hold",
            lambda f: f.while_cold is WhileCold.HOLD or (f.hold_timeout is None and f.max_held is None),
        ),
        Rule(
            "!(has(self.hedgeToPriced) && self.hedgeToPriced) || has(self.firstTokenAfter)",
            "hedgeToPriced belongs to firstTokenAfter: set that too",
            lambda f: not f.hedge_to_priced or f.first_token_after is not None,
        ),
    )

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
    while_cold: WhileCold = Field(
        default=WhileCold.USE_NEXT,
        description="While a target has no ready pod, loads or pulls its model: UseNext serves from the next one, Hold"
        " lets requests wait for it.",
    )
    hold_timeout: Duration | None = Field(
        default=None,
        description=f"How long Hold lets a request wait before it moves on; {DEFAULT_HOLD_TIMEOUT} when not given.",
    )
    max_held: int | None = Field(
        default=None,
        ge=1,
        le=65536,
        description="Requests that each gateway holds for the route; further ones move on at once."
        f" {DEFAULT_MAX_HELD} when not given.",
    )
    first_token_after: Duration | None = Field(
        default=None,
        description="A stream without content after so long is asked of the next target too; whose content comes first"
        " answers, the other is cancelled. Off when not given.",
    )
    hedge_to_priced: bool = Field(
        default=False, description="firstTokenAfter may ask a target that has a price, too: both are paid for."
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
