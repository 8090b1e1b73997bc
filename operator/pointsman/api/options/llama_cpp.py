"""Options of engine LlamaCpp."""

from __future__ import annotations

from pydantic import Field

from pointsman.api.base import ApiModel


class LlamaCppOptions(ApiModel):
    """Options of llama.cpp's server, each a flag of it."""

    parallel: int | None = Field(
        default=None, ge=1, le=1024, description="Requests it answers at once (--parallel); they share its context."
    )
