"""How much GPU memory a spec's model takes, before an engine tries. Pure.

Decided here: how many tokens an engine keeps for a spec, in which numbers, what it takes for itself, and whether it
fits. It is an estimate, and says so: what an engine needs for itself depends on its version and on the model.

Facts:
- vLLM takes 90 % of a GPU's memory unless told otherwise, and does not start unless one request of the greatest length
  fits beside the weights. More requests share what is left.
- llama.cpp keeps the context once for each of its slots, and puts what does not fit on the CPU; so does Ollama, whose
  context is 4,096 tokens below 24 GiB of memory, 32,768 below 48 GiB and 262,144 above, where nothing says otherwise.
- The numbers of a cache: 2 bytes; of fp8 1; of ggml's q8_0 34/32 and of q4_0 18/32 (blocks of 32 with a scale).
"""

from __future__ import annotations

from dataclasses import dataclass

from pointsman.api.backend import LLMBackendSpec
from pointsman.api.engine import Engine
from pointsman.api.model import Model
from pointsman.domain.figures import Figures, kv_bytes, tokens_within

GIB = 1 << 30
OWN_BYTES = GIB
"""What an engine takes of each GPU for itself: the driver's context, compiled graphs, buffers of one step."""
VLLM_PERCENT = 90
_NUMBER_BYTES = {"f32": 4.0, "f16": 2.0, "bf16": 2.0, "q8_0": 34 / 32, "q5_1": 24 / 32, "q5_0": 22 / 32,
                 "q4_1": 20 / 32, "q4_0": 18 / 32, "iq4_nl": 18 / 32}  # fmt: skip
_QUANTISES_AT_LOAD = ("fp8", "bitsandbytes", "experts_int8")


@dataclass(frozen=True)
class Demand:
    """What an engine keeps for a spec."""

    tokens: int
    """Of each sequence."""
    sequences: int = 1
    number_bytes: float = 2.0
    percent: int = 100
    """Of a GPU's memory that the engine uses."""
    spills: bool = False
    """What does not fit goes to the CPU, instead of the engine not starting."""


@dataclass(frozen=True)
class Estimate:
    """Bytes, of all GPUs of a replica together."""

    weights: int
    cache: int
    own: int
    has: int
    tokens: int
    """For which the cache is."""
    most: int
    """Tokens of each sequence that would fit; 0: not even the weights do."""

    @property
    def needs(self) -> int:
        return self.weights + self.cache + self.own

    @property
    def fits(self) -> bool:
        return self.needs <= self.has


def demand(spec: LLMBackendSpec, model: Model, figures: Figures, memory: int) -> Demand | str:
    """`memory`: bytes of one GPU. A sentence when it cannot be told."""
    said = model.context_length
    match spec.engine:
        case Engine.VLLM:
            vllm = spec.vllm
            if vllm is not None and vllm.quantization in _QUANTISES_AT_LOAD:
                return f"quantization {vllm.quantization} makes the weights smaller as they are loaded"
            tokens = (vllm.max_model_len if vllm else None) or said or figures.context
            narrow = vllm is not None and (vllm.kv_cache_dtype or "").startswith("fp8")
            percent = (vllm.gpu_memory_percent if vllm else None) or VLLM_PERCENT
            return Demand(tokens, 1, 1.0 if narrow else 2.0, percent)
        case Engine.LLAMA_CPP:
            llama = spec.llama_cpp
            if llama is not None and llama.gpu_layers is not None:
                return f"{llama.gpu_layers} layers are put on the GPU, the others are not"
            slots = (llama.parallel if llama else None) or 1
            number = _NUMBER_BYTES.get((llama.kv_cache_type if llama else None) or "f16", 2.0)
            return Demand(said or figures.context, slots, number, spills=True)
        case Engine.OLLAMA:
            asked = max((m.context_length or 0 for m in spec.models), default=0)  # one setting for all
            tokens = asked or (4096 if memory < 24 * GIB else 32768 if memory < 48 * GIB else 262144)
            tokens = min(tokens, figures.context or tokens)
            return Demand(tokens, (spec.ollama.parallel if spec.ollama else None) or 1, spills=True)
        case _:
            return f"what an image of engine {spec.engine.value} keeps is not known"


def estimate(figures: Figures, wants: Demand, memory: int, count: int) -> Estimate:
    """`memory`: bytes of one GPU, `count` of which share the model evenly."""
    own = OWN_BYTES * count
    has = memory * count * wants.percent // 100
    cache = kv_bytes(figures, wants.tokens, wants.number_bytes) * wants.sequences
    room = has - own - figures.weights
    most = tokens_within(figures, room // wants.sequences, wants.number_bytes) if room > 0 else 0
    return Estimate(figures.weights, cache, own, has, wants.tokens, most)
