"""ModelRoute: the model names that clients ask for, and the targets that may answer."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from pointsman.api.base import ApiModel, ListMap, Rule, StatusModel, Text
from pointsman.api.conditions import Condition
from pointsman.api.scalars import DnsLabel, Duration, HeaderName, ModelName, ModelPattern

MAX_TARGETS = 16
MAX_RULES = 16
CREDENTIALS = ("authorization", "cookie", "proxy-authorization", "x-api-key", "api-key")
"""Headers that a rule may not match: their values are secrets, and a route is no place for them."""


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


class Strategy(StrEnum):
    """How the targets of one priority, and their endpoints, share the requests."""

    AUTO = "Auto"
    WEIGHTED = "Weighted"
    LEAST_IN_FLIGHT = "LeastInFlight"
    LOWEST_LATENCY = "LowestLatency"
    LOWEST_COST = "LowestCost"
    PREFIX_AFFINITY = "PrefixAffinity"


class TaskType(StrEnum):
    """What a request is for, as the caller says."""

    CODE_GENERATION = "CodeGeneration"
    CODE_ANALYSIS = "CodeAnalysis"
    REASONING = "Reasoning"
    GENERAL_CHAT = "GeneralChat"
    PLANNING = "Planning"
    TEXT_GENERATION = "TextGeneration"


class Needed(StrEnum):
    """What a request can need of a model, as its own content shows."""

    TOOLS = "Tools"
    VISION = "Vision"
    EMBEDDINGS = "Embeddings"


class HeaderMatchType(StrEnum):
    EXACT = "Exact"
    GLOB = "Glob"


class Target(ApiModel):
    """A backend's model that may answer for the route."""

    backend: DnsLabel = Field(description="Name of an LLMBackend in the same namespace.")
    model: ModelName = Field(description="Name of one of its models.")
    priority: int = Field(default=0, ge=0, le=15, description="Lower numbers are tried first.")
    weight: int | None = Field(
        default=None,
        ge=0,
        le=1000,
        description="Its share among the targets of its priority, 1 when not given; 0: only when the others cannot.",
    )


class HeaderMatch(ApiModel):
    """A header that a request must have."""

    name: HeaderName = Field(description="The header's name, in any case.")
    type: HeaderMatchType = Field(
        default=HeaderMatchType.EXACT, description="Exact compares the value; Glob lets * stand for any text."
    )
    value: Annotated[
        str, Text(r"^[ -~]+$", "must be the value of a header: printable ASCII, at most 256 characters", 256, 1)
    ] = Field(description="The value, in its own case.")


class Match(ApiModel):
    """What a request must be like: all that is given must hold."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.taskTypes) || has(self.capabilities) || has(self.headers) || has(self.minContextLength) ||"
            " has(self.maxContextLength)",
            "a rule without a condition matches everything: put its targets into spec.targets",
            lambda m: bool(m.task_types or m.capabilities or m.headers or m.min_context_length or m.max_context_length),
        ),
        Rule(
            "!has(self.minContextLength) || !has(self.maxContextLength) ||"
            " self.minContextLength <= self.maxContextLength",
            "minContextLength is greater than maxContextLength: nothing would match",
            lambda m: (m.min_context_length or 0) <= (m.max_context_length or m.min_context_length or 0),
        ),
        Rule(
            "!has(self.headers) || self.headers.all(h, !(h.name.lowerAscii() in ["
            + ", ".join(f"'{name}'" for name in CREDENTIALS)
            + "]))",
            f"a rule cannot match a credential ({', '.join(CREDENTIALS)}): let clients send a header of their own",
            lambda m: not any(h.name.lower() in CREDENTIALS for h in m.headers or ()),
        ),
    )

    task_types: Annotated[tuple[TaskType, ...], Field(min_length=1, max_length=6)] | None = Field(
        default=None,
        description="The request's task_type is one of these.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    capabilities: Annotated[tuple[Needed, ...], Field(min_length=1, max_length=3)] | None = Field(
        default=None,
        description="The request needs all of these: it has tools, images, or asks for embeddings.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    headers: Annotated[tuple[HeaderMatch, ...], Field(min_length=1, max_length=8)] | None = Field(
        default=None, description="It has all of these headers."
    )
    min_context_length: int | None = Field(
        default=None, ge=1, le=100_000_000, description="Its prompt has at least so many tokens, by an estimate."
    )
    max_context_length: int | None = Field(
        default=None, ge=1, le=100_000_000, description="Its prompt has at most so many tokens, by an estimate."
    )


class RouteRule(ApiModel):
    """Other targets for some of the requests."""

    match: Match = Field(description="Which requests.")
    targets: Annotated[tuple[Target, ...], Field(min_length=1, max_length=MAX_TARGETS)] = Field(
        description="Who may answer them, instead of spec.targets."
    )


class Sticky(ApiModel):
    """Who asks decides, not chance: the same key gets the same target while the weights stay."""

    header: HeaderName | None = Field(
        default=None,
        description="The header whose value is the key. Where a request lacks it, and without this field, its user or"
        " safety_identifier is; without any, it is chance.",
    )


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

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.sticky) || self.strategy == 'Weighted'",
            "sticky belongs to strategy Weighted: set it, or remove sticky",
            lambda s: s.sticky is None or s.strategy is Strategy.WEIGHTED,
        ),
    )

    models: Annotated[tuple[ModelPattern, ...], Field(min_length=1, max_length=32)] = Field(
        description="The model names that clients ask for; * stands for any text. An exact name goes before a pattern,"
        " of two patterns the one with more letters.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    targets: Annotated[tuple[Target, ...], Field(min_length=1, max_length=MAX_TARGETS)] = Field(
        description="Who may answer, by priority; those of one priority share, as the strategy says."
    )
    route_rules: Annotated[tuple[RouteRule, ...], Field(max_length=MAX_RULES)] = Field(
        default=(), alias="rules", description="Other targets for some requests; the first rule that matches decides."
    )
    strategy: Strategy = Field(
        default=Strategy.AUTO, description="How the targets of one priority, and their endpoints, share the requests."
    )
    sticky: Sticky | None = Field(default=None, description="Strategy Weighted: the same caller, the same target.")
    fallback: Fallback = Field(default=Fallback(), description="What happens when a target cannot answer.")
    timeouts: Timeouts = Field(default=Timeouts(), description="How long to wait.")

    @property
    def target_lists(self) -> tuple[tuple[str, tuple[Target, ...]], ...]:
        """What a request may get, by the name of the field: one list for each rule, and the one for all others."""
        rules = ((f"rules[{n}].targets", rule.targets) for n, rule in enumerate(self.route_rules))
        return (("targets", self.targets), *rules)

    @property
    def names_of_targets(self) -> tuple[tuple[str, str], ...]:
        """Each (backend, model) that it names, once, in the order in which it does."""
        return tuple(dict.fromkeys((t.backend, t.model) for _, listed in self.target_lists for t in listed))


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
    targets: Annotated[tuple[TargetStatus, ...], Field(max_length=MAX_TARGETS * (MAX_RULES + 1))] = ()
    """Each backend's model that the route or one of its rules names, once."""
    targets_summary: str = ""
    """For printer columns: `2/3` targets that could serve now."""
    last_fallback: LastFallback | None = None
