"""Options of engine Ollama."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pointsman.api.base import ApiModel, Text
from pointsman.api.scalars import Duration


class OllamaOptions(ApiModel):
    """Options of the Ollama server, each an environment variable of it."""

    parallel: int | None = Field(
        default=None, ge=1, le=1024, description="Requests a model answers at once (OLLAMA_NUM_PARALLEL)."
    )
    max_loaded_models: int | None = Field(
        default=None, ge=1, le=256, description="Models in memory at once (OLLAMA_MAX_LOADED_MODELS)."
    )
    max_queue: int | None = Field(
        default=None, ge=1, le=65536, description="Requests that may wait for a model to load (OLLAMA_MAX_QUEUE)."
    )
    keep_alive: Duration | None = Field(
        default=None, description="How long an unused model stays in memory (OLLAMA_KEEP_ALIVE)."
    )
    origins: Annotated[
        tuple[
            Annotated[
                str,
                Text(r"^[^\s,]+$", "must be an origin such as https://app.example, without spaces or commas", 256, 1),
            ],
            ...,
        ],
        Field(max_length=32),
    ] = Field(default=(), description="Web origins that may call the server directly (OLLAMA_ORIGINS).")
