"""Options of engine VLLM."""

from __future__ import annotations

from pydantic import Field

from pointsman.api.base import ApiModel


class VllmOptions(ApiModel):
    """Options of the vLLM server, each a flag of it."""

    max_model_len: int | None = Field(
        default=None, ge=1, le=100_000_000, description="Tokens of a prompt and its answer together (--max-model-len)."
    )
