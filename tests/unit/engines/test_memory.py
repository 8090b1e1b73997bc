"""How much GPU memory models take. The figures of models are those that their makers publish in `config.json`."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.controllers.cluster import backend

from pointsman.domain.figures import Figures, kv_bytes, tokens_within
from pointsman.engines.memory import GIB, Demand, demand, estimate
from pointsman.models.figures import of_config, of_gguf

LLAMA_8B = {
    "model_type": "llama", "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
    "hidden_size": 4096, "max_position_embeddings": 131072,
}  # fmt: skip
LLAMA_70B = LLAMA_8B | {"num_hidden_layers": 80, "num_attention_heads": 64, "hidden_size": 8192}
QWEN3_8B = LLAMA_8B | {"num_hidden_layers": 36, "head_dim": 128, "max_position_embeddings": 40960,
                       "sliding_window": None}  # fmt: skip
QWEN25_7B = {
    "model_type": "qwen2", "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4,
    "hidden_size": 3584, "sliding_window": 131072, "use_sliding_window": False, "max_position_embeddings": 32768,
}  # fmt: skip
GEMMA3_12B = {
    "text_config": {
        "model_type": "gemma3_text", "num_hidden_layers": 48, "num_attention_heads": 16, "num_key_value_heads": 8,
        "head_dim": 256, "hidden_size": 3840, "sliding_window": 1024, "sliding_window_pattern": 6,
        "max_position_embeddings": 131072,
    }
}  # fmt: skip
GPT_OSS_20B = {
    "model_type": "gpt_oss", "num_hidden_layers": 24, "num_attention_heads": 64, "num_key_value_heads": 8,
    "head_dim": 64, "hidden_size": 2880, "sliding_window": 128, "max_position_embeddings": 131072,
    "layer_types": ["sliding_attention", "full_attention"] * 12,
}  # fmt: skip
DEEPSEEK_V3 = {
    "model_type": "deepseek_v3", "num_hidden_layers": 61, "num_attention_heads": 128, "num_key_value_heads": 128,
    "hidden_size": 7168, "kv_lora_rank": 512, "qk_rope_head_dim": 64, "max_position_embeddings": 163840,
}  # fmt: skip
MISTRAL_V1 = LLAMA_8B | {"model_type": "mistral", "sliding_window": 4096, "max_position_embeddings": 32768}
NEXT = LLAMA_8B | {"layer_types": ["linear_attention"] * 24 + ["full_attention"] * 8}


@pytest.mark.parametrize(
    ("config", "a_token", "short", "long"),
    [
        (LLAMA_8B, 128 << 10, 1 << 30, 16 << 30),  # 128 KiB a token at 16 bits: 16 GiB at its 131,072
        (LLAMA_70B, 320 << 10, 2.5 * GIB, 40 << 30),
        (QWEN3_8B, 144 << 10, 1.125 * GIB, 18 << 30),
        (QWEN25_7B, 56 << 10, 0.4375 * GIB, 7 << 30),
        # 8 of 48 layers remember all; the others 1,024 tokens
        (GEMMA3_12B, 384 << 10, 64 * 2**10 * 8192 + 320 * 2**20, 64 * 2**10 * 131072 + 320 * 2**20),
        (GPT_OSS_20B, 48 << 10, 24 * 2**10 * 8192 + 3 * 2**20, 24 * 2**10 * 131072 + 3 * 2**20),
        (DEEPSEEK_V3, 61 * 576 * 2, 61 * 576 * 2 * 8192, 61 * 576 * 2 * 131072),
        (MISTRAL_V1, 128 << 10, 512 << 20, 512 << 20),
        (NEXT, 32 << 10, 256 << 20, 4 << 30),
    ],
)
def test_keys_and_values_of_well_known_models(config: dict[str, Any], a_token: int, short: float, long: float) -> None:
    figures = of_config(config, 0)
    assert [kv_bytes(figures, n) for n in (1, 8192, 131072)] == [a_token, short, long]


def test_the_same_model_as_gguf_has_the_same_figures() -> None:
    llama = {"general.architecture": "llama", "llama.block_count": 32, "llama.attention.head_count": 32,
             "llama.attention.head_count_kv": 8, "llama.embedding_length": 4096,
             "llama.context_length": 131072}  # fmt: skip
    gemma = {"general.architecture": "gemma3", "gemma3.block_count": 48, "gemma3.attention.head_count": 16,
             "gemma3.attention.head_count_kv": 8, "gemma3.attention.key_length": 256, "gemma3.embedding_length": 3840,
             "gemma3.attention.value_length": 256, "gemma3.attention.sliding_window": 1024,
             "gemma3.context_length": 131072}  # fmt: skip
    assert of_gguf(llama, 5) == of_config(LLAMA_8B, 5)
    assert of_gguf(gemma, 5) == of_config(GEMMA3_12B, 5)
    each = llama | {"llama.attention.head_count_kv": [8, 0] * 16}
    assert of_gguf(each, 0).kv * 2 == of_gguf(llama, 0).kv


@given(
    figures=st.builds(Figures, kv=st.integers(0, 10**6), window_kv=st.integers(0, 10**6), window=st.integers(0, 10**5)),
    room=st.integers(0, 10**12),
    number=st.sampled_from([0.5625, 1.0, 2.0]),
)
def test_tokens_within_is_the_most_that_fits(figures: Figures, room: int, number: float) -> None:
    most = tokens_within(figures, room, number)
    assert kv_bytes(figures, most, number) <= room
    assert most == 1 << 30 or kv_bytes(figures, most + 1, number) > room


EIGHT_B = Figures(weights=16_060_522_496, kv=65536, context=131072)
"""Llama 3.1 8B in 16 bits."""
HF = [{"name": "m", "source": "hf://org/repo"}]
VLLM = {"engine": "VLLM", "models": HF, "gpu": {"count": 1}}
GGUF = {"engine": "LlamaCpp", "models": [{"name": "m", "source": "hf://org/repo/m.gguf"}], "gpu": {"count": 1}}


def wanted(spec: dict[str, Any], memory: int = 24 * GIB) -> Demand | str:
    of = backend(spec).spec
    return demand(of, of.models[0], EIGHT_B, memory)


@pytest.mark.parametrize(
    ("spec", "memory", "wants"),
    [
        (VLLM, 24, Demand(131072, 1, 2.0, 90)),
        (VLLM | {"vllm": {"maxModelLen": 8192, "kvCacheDtype": "fp8", "gpuMemoryPercent": 80}}, 24,
         Demand(8192, 1, 1.0, 80)),
        (VLLM | {"models": [{**HF[0], "contextLength": 4096}]}, 24, Demand(4096, 1, 2.0, 90)),
        (GGUF, 24, Demand(131072, 1, 2.0, 100, spills=True)),
        (GGUF | {"llamaCpp": {"parallel": 4, "kvCacheType": "q8_0"},
                 "models": [{**GGUF["models"][0], "contextLength": 8192}]}, 24,  # type: ignore[index]
         Demand(8192, 4, 1.0625, 100, spills=True)),
        ({"gpu": {"count": 1}}, 16, Demand(4096, 1, 2.0, 100, spills=True)),
        ({"gpu": {"count": 1}}, 24, Demand(32768, 1, 2.0, 100, spills=True)),
        ({"gpu": {"count": 1}, "models": [
            {"name": "m", "source": "ollama://tiny:1"},
            {"name": "n", "source": "ollama://tiny:2", "contextLength": 16384},
        ]}, 16, Demand(16384, 1, 2.0, 100, spills=True)),
        ({"gpu": {"count": 1}, "ollama": {"parallel": 2}}, 80, Demand(131072, 2, 2.0, 100, spills=True)),
    ],
)  # fmt: skip
def test_what_an_engine_keeps(spec: dict[str, Any], memory: int, wants: Demand) -> None:
    assert wanted(spec, memory * GIB) == wants


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        (VLLM | {"vllm": {"quantization": "fp8"}}, "as they are loaded"),
        (GGUF | {"llamaCpp": {"gpuLayers": 12}}, "12 layers"),
        ({"engine": "Custom", "image": "i", "custom": {"port": 1}, "models": HF, "gpu": {"count": 1}}, "Custom"),
    ],
)
def test_what_cannot_be_told_is_said(spec: dict[str, Any], word: str) -> None:
    assert word in str(wanted(spec))


def test_an_eight_billion_model_on_24_gib() -> None:
    """15 GiB of weights, 1 of the engine's own, 90 % of 24: 5.6 GiB are left, 46,000 tokens of 128 KiB."""
    whole = estimate(EIGHT_B, Demand(131072, percent=90), 24 * GIB, 1)
    assert not whole.fits
    assert 45_000 < whole.most < 47_000
    assert estimate(EIGHT_B, Demand(whole.most, percent=90), 24 * GIB, 1).fits
    assert not estimate(EIGHT_B, Demand(whole.most + 1, percent=90), 24 * GIB, 1).fits
    assert estimate(EIGHT_B, Demand(131072, percent=90), 24 * GIB, 2).fits
    assert estimate(EIGHT_B, Demand(8192, percent=90), 16 * GIB, 1).most == 0
