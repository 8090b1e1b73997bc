"""The gateways' checks of an endpoint."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from pointsman.api.base import ApiModel
from pointsman.api.scalars import Duration

DEFAULT_PROBE_INTERVAL = "5s"
DEFAULT_EXTERNAL_PROBE_INTERVAL = "60s"


class GenerationMode(StrEnum):
    ENABLED = "Enabled"
    DISABLED = "Disabled"


class GenerationProbe(ApiModel):
    """A check that makes the model produce one token, while no traffic proves that it can."""

    mode: GenerationMode = Field(
        default=GenerationMode.ENABLED,
        description="Without the block: Enabled for engines that Pointsman runs, Disabled for engine External.",
    )
    interval: Duration = Field(default="60s", description="Time without any answer after which it is made.")
    timeout: Duration = Field(default="20s", description="Time the token may take.")


class Probe(ApiModel):
    """The gateways' checks of each endpoint."""

    interval: Duration | None = Field(
        default=None,
        description=f"Time between two checks; {DEFAULT_PROBE_INTERVAL} when not given,"
        f" {DEFAULT_EXTERNAL_PROBE_INTERVAL} for engine External.",
    )
    timeout: Duration = Field(default="2s", description="Time a check may take.")
    failure_threshold: int = Field(
        default=3, ge=1, le=100, description="Failed checks in a row that make it Unhealthy."
    )
    success_threshold: int = Field(default=2, ge=1, le=100, description="Good checks in a row that let it back in.")
    generation: GenerationProbe | None = Field(
        default=None,
        description="A check by one token, for an engine that listens but hangs. External: it costs a token on each"
        " gateway, and a server that loads models on demand loads the first of `models` for it.",
    )
