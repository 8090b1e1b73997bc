"""How much an endpoint is asked at once."""

from __future__ import annotations

from pydantic import Field

from pointsman.api.base import ApiModel
from pointsman.api.scalars import Duration

DEFAULT_MAX_QUEUED = 64
DEFAULT_QUEUE_TIMEOUT = "10s"


class Limits(ApiModel):
    """How much an endpoint is asked at once, and what happens to requests beyond that."""

    max_in_flight: int | None = Field(
        default=None,
        ge=1,
        le=65536,
        description="Requests that an endpoint answers at once, of all gateways together. Engine Ollama:"
        " ollama.parallel for each model in memory when not given; otherwise no limit.",
    )
    max_queued: int | None = Field(
        default=None,
        ge=0,
        le=65536,
        description=f"Requests that may wait for a slot of an endpoint; {DEFAULT_MAX_QUEUED} when not given. With 0"
        " they move on to the next target at once.",
    )
    queue_timeout: Duration | None = Field(
        default=None,
        description="How long a request waits for a slot before it moves on to the next priority;"
        f" {DEFAULT_QUEUE_TIMEOUT} when not given.",
    )
