"""Options of engine VLLM."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from pointsman.api.base import ApiModel
from pointsman.api.options.flags import ChatTemplate, Flags, FormatName, ParserName


class Dtype(StrEnum):
    """The numbers that vLLM computes with."""

    BFLOAT16 = "BFloat16"
    FLOAT16 = "Float16"
    FLOAT32 = "Float32"


class VllmOptions(ApiModel):
    """Options of the vLLM server, each a flag of it; vLLM's own default rules where one is not given."""

    max_model_len: int | None = Field(
        default=None,
        ge=1,
        le=100_000_000,
        description="Tokens of a prompt and its answer together (--max-model-len); the model's contextLength when not"
        " given, else what the model itself says.",
    )
    max_num_seqs: int | None = Field(
        default=None,
        ge=1,
        le=65536,
        description="Requests it answers at once (--max-num-seqs). More wait, so it is also the limit of an endpoint"
        " unless limits.maxInFlight says otherwise.",
    )
    max_num_batched_tokens: int | None = Field(
        default=None, ge=1, le=100_000_000, description="Tokens it computes in one step (--max-num-batched-tokens)."
    )
    nodes: int | None = Field(
        default=None,
        ge=2,
        le=64,
        description="Pods that run one replica together, each with gpu.count GPUs: for a model that fits the GPUs of no"
        " single node. Needs LeaderWorkerSet in the cluster, and a volume that several nodes can mount.",
    )
    pipeline_parallel_size: int | None = Field(
        default=None,
        ge=1,
        le=64,
        description="Into how many stages of layers the model is cut (--pipeline-parallel-size); as many as nodes when"
        " not given. The GPUs of a replica are shared out evenly among them (--tensor-parallel-size).",
    )
    gpu_memory_percent: int | None = Field(
        default=None, ge=10, le=99, description="Share of a GPU's memory that it takes (--gpu-memory-utilization)."
    )
    dtype: Dtype | None = Field(default=None, description="The numbers it computes with (--dtype).")
    quantization: FormatName | None = Field(
        default=None, description="How the weights are quantised, where the model does not say (--quantization)."
    )
    kv_cache_dtype: FormatName | None = Field(
        default=None, description="The numbers of the KV cache (--kv-cache-dtype), such as fp8."
    )
    prefix_caching: bool | None = Field(
        default=None, description="Keeps what equal beginnings of prompts have in common (--enable-prefix-caching)."
    )
    enforce_eager: bool = Field(
        default=False, description="Starts sooner and answers slower: no CUDA graphs (--enforce-eager)."
    )
    tool_call_parser: ParserName | None = Field(
        default=None,
        description="Makes tool calls of what the model writes (--tool-call-parser, with --enable-auto-tool-choice);"
        " without it requests with tools fail.",
    )
    reasoning_parser: ParserName | None = Field(
        default=None, description="Tells thoughts from the answer (--reasoning-parser)."
    )
    chat_template: ChatTemplate | None = Field(
        default=None, description="A Jinja template in place of the model's own (--chat-template)."
    )
    trust_remote_code: bool = Field(
        default=False, description="Runs Python code that comes with the model (--trust-remote-code)."
    )
    max_loras: int | None = Field(
        default=None,
        ge=1,
        le=256,
        description="Adapters that one step of it may mix (--max-loras); all of them when not given.",
    )
    max_lora_rank: int | None = Field(
        default=None, ge=1, le=512, description="The largest rank of an adapter (--max-lora-rank)."
    )
    extra_args: Flags = Field(default=(), description="Further flags of vllm serve, for what has no field here.")
