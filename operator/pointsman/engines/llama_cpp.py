"""Engine LlamaCpp: spec → container. Pure.

Facts (measured on 0.5.0-dev of 2026): `llama-server` answers `/health` with 503 while it loads, then with 200; it
answers to any model name; the context that it is given is shared out among its slots; by default it computes with as
many threads as the machine has cores, whatever its container may use; requests over its slots wait with their headers
withheld; it takes each flag from a variable LLAMA_ARG_… too, and the flag wins.
"""

from __future__ import annotations

import math

from pointsman.api.backend import LLMBackendSpec
from pointsman.api.options.llama_cpp import LlamaCppMode, LlamaCppOptions
from pointsman.api.scalars import amount
from pointsman.engines import loadable
from pointsman.engines.base import TMP, Manifest, Scratch, gguf_path
from pointsman.engines.flags import clash, literal, reserved
from pointsman.engines.server import server

PORT = 8080
FLAGS = {
    "-m": "", "--model": "", "-a": "", "--alias": "", "--host": "", "--port": "", "--metrics": "", "--api-key": "",
    "--api-key-file": "", "--ssl-key-file": "", "--ssl-cert-file": "", "--offline": "", "-mu": "", "--model-url": "",
    "-hf": "", "-hfr": "", "--hf-repo": "", "--models-dir": "", "--models-preset": "",
    "-c": "models[].contextLength", "--ctx-size": "models[].contextLength",
    "-np": "llamaCpp.parallel", "--parallel": "llamaCpp.parallel",
    "-ngl": "llamaCpp.gpuLayers", "--gpu-layers": "llamaCpp.gpuLayers", "--n-gpu-layers": "llamaCpp.gpuLayers",
    "-t": "llamaCpp.threads", "--threads": "llamaCpp.threads",
    "-fa": "llamaCpp.flashAttention", "--flash-attn": "llamaCpp.flashAttention",
    "-ctk": "llamaCpp.kvCacheType", "--cache-type-k": "llamaCpp.kvCacheType",
    "-ctv": "llamaCpp.kvCacheType", "--cache-type-v": "llamaCpp.kvCacheType",
    "--embedding": "llamaCpp.mode", "--embeddings": "llamaCpp.mode",
    "--pooling": "llamaCpp.pooling", "--chat-template": "llamaCpp.chatTemplate",
}  # fmt: skip
"""Flags that `extraArgs` must not hold, and the field to use."""
VARIABLES = (
    "LLAMA_ARG_MODEL", "LLAMA_ARG_HOST", "LLAMA_ARG_PORT", "LLAMA_ARG_ALIAS", "LLAMA_API_KEY", "LLAMA_ARG_API_KEY_FILE",
    "LLAMA_ARG_OFFLINE", "LLAMA_ARG_ENDPOINT_METRICS", "LLAMA_ARG_MODEL_URL", "LLAMA_ARG_HF_REPO",
    "LLAMA_ARG_MODELS_DIR", "LLAMA_ARG_MODELS_PRESET",
)  # fmt: skip
"""`env` must not set them."""


class LlamaCpp:
    """`Driver` of llama.cpp's server."""

    runs_pods = True
    worker_flags = ()
    reads_files = True
    loads = loadable.GGUF

    def port(self, spec: LLMBackendSpec) -> int:
        return PORT

    def problem(self, spec: LLMBackendSpec) -> str | None:
        o = spec.llama_cpp or LlamaCppOptions()
        if o.gpu_layers and spec.gpu is None:
            return "spec.llamaCpp.gpuLayers: the pods have no GPU: set gpu, or remove it"
        return reserved(spec, VARIABLES) or clash(o.extra_args, FLAGS, "llamaCpp")

    def container(self, spec: LLMBackendSpec, image: str) -> Manifest:
        (model,) = spec.models
        served = ["--model", gguf_path(model), "--alias", model.name, "--host", "0.0.0.0", "--port", str(PORT)]
        args = [*served, "--offline", "--metrics", *_arguments(spec)]
        return server(self, spec, image, health="/health", env={}, args=args)

    def scratch(self, spec: LLMBackendSpec) -> tuple[Scratch, ...]:
        return (TMP,)


def _arguments(spec: LLMBackendSpec) -> list[str]:
    o = spec.llama_cpp or LlamaCppOptions()
    (model,) = spec.models
    context = None if model.context_length is None else model.context_length * (o.parallel or 1)
    slots = o.parallel
    if slots is None and context is not None:
        slots = 1  # by itself it makes several, and none would have the whole context
    values = {
        "--ctx-size": context,
        "--parallel": slots,
        "--threads": o.threads or _cpus(spec),
        "--n-gpu-layers": o.gpu_layers,
        "--flash-attn": None if o.flash_attention is None else o.flash_attention.value.lower(),
        "--cache-type-k": o.kv_cache_type,
        "--cache-type-v": o.kv_cache_type,
        "--pooling": None if o.pooling is None else o.pooling.value.lower(),
        "--chat-template": None if o.chat_template is None else literal(o.chat_template),
    }
    switches = {"--embeddings": o.mode is LlamaCppMode.EMBEDDINGS}
    out = [word for flag, value in values.items() if value is not None for word in (flag, str(value))]
    return [*out, *(flag for flag, on in switches.items() if on), *o.extra_args]


def _cpus(spec: LLMBackendSpec) -> int | None:
    """Threads that the container has CPUs for; None where nothing says so."""
    given = spec.resources
    cpu = None if given is None else given.limits.get("cpu") or given.requests.get("cpu")
    return None if cpu is None else max(1, math.floor(amount(cpu)))
