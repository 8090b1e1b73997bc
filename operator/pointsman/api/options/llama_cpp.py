"""Options of engine LlamaCpp."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from pydantic import Field

from pointsman.api.base import ApiModel, Rule
from pointsman.api.options.flags import ChatTemplate, Flags, FormatName


class LlamaCppMode(StrEnum):
    """What the server is for: llama.cpp's does one of these."""

    GENERATION = "Generation"
    EMBEDDINGS = "Embeddings"


class Pooling(StrEnum):
    """How the vectors of all tokens become one."""

    MEAN = "Mean"
    CLS = "Cls"
    LAST = "Last"


class FlashAttention(StrEnum):
    ON = "On"
    OFF = "Off"


class LlamaCppOptions(ApiModel):
    """Options of llama.cpp's server, each a flag of it; its own default rules where one is not given."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.pooling) || self.mode == 'Embeddings'",
            "pooling belongs to mode Embeddings: set it, or remove pooling",
            lambda o: o.pooling is None or o.mode is LlamaCppMode.EMBEDDINGS,
        ),
    )

    mode: LlamaCppMode = Field(
        default=LlamaCppMode.GENERATION,
        description="What it is for: embeddings (--embeddings) take a server of their own.",
    )
    pooling: Pooling | None = Field(
        default=None,
        description="How an embedding is made of its tokens' (--pooling), for a model that does not say.",
    )
    parallel: int | None = Field(
        default=None,
        ge=1,
        le=256,
        description="Requests it answers at once (--parallel), each with the whole contextLength of the model. More"
        " wait, so it is also the limit of an endpoint unless limits.maxInFlight says otherwise.",
    )
    gpu_layers: int | None = Field(
        default=None,
        ge=0,
        le=10000,
        description="Layers that are computed on the GPUs (--n-gpu-layers); as many as fit when not given.",
    )
    threads: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="Threads that compute (--threads). When not given, as many as resources has CPUs, in limits or else"
        " in requests; without those, as many as the node has cores, which is slow where others use them.",
    )
    flash_attention: FlashAttention | None = Field(default=None, description="Flash attention (--flash-attn).")
    kv_cache_type: FormatName | None = Field(
        default=None,
        description="The numbers of the KV cache (--cache-type-k, --cache-type-v), such as q8_0.",
    )
    chat_template: ChatTemplate | None = Field(
        default=None, description="A Jinja template in place of the model's own (--chat-template)."
    )
    extra_args: Flags = Field(default=(), description="Further flags of llama-server, for what has no field here.")
