"""A tiny model with known answers, as a folder that a real vLLM (or transformers) loads. Standard library only.

    a prompt that ends in <|assistant|>   → " Hello from the tiny model." and end of text
    a prompt that ends in <|loop|>        → " tick tock tick …" until something stops it
    any other prompt                      → as <|assistant|>

The trick is that of `tiny_model`: attention and feed-forward are zero, embeddings are one-hot, and the output matrix
is a table that says which token follows which. It is scaled, so that sampling at a temperature of 1 does not stray.

Run as `python -m tests.support.tiny_llama FOLDER [--layers N] [--ffn N] [--template CHAT_TEMPLATE]`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from tests.support import tensors_file
from tests.support.tensors_file import Tensor
from tests.support.tiny_model import ANSWER, WORDS, successors

__all__ = ["ANSWER", "LOOP_TEMPLATE", "TEMPLATE", "write", "write_adapter"]

_ROLE = "{{ m.role if m.role in ('system', 'assistant') else 'user' }}"
_TURNS = "{% for m in messages %}<|" + _ROLE + "|>{{ m.content }}{% endfor %}"
TEMPLATE = _TURNS + "<|assistant|>"
"""The chat template that makes it give its answer."""
LOOP_TEMPLATE = _TURNS + "<|loop|>"
"""The chat template that makes it go on for ever."""

_SPECIAL = ("<unk>", "<s>", "</s>", "<|system|>", "<|user|>", "<|assistant|>", "<|loop|>")
_HEADS, _KV_HEADS, _HEAD_DIM = 2, 1, 64
"""vLLM's attention on a CPU knows no heads narrower than 32."""
_WIDTH = _HEADS * _HEAD_DIM
_RANK = 8
"""Of the adapter; vLLM knows 1 and then nothing below it."""
_ONE, _SURE = b"\x80\x3f", b"\xf0\x41"
"""1 and 30 in bfloat16, little-endian."""


def write(folder: Path, *, layers: int = 2, ffn: int = 128, context: int = 2048, template: str = TEMPLATE) -> None:
    """Write config.json, the tokenizer and model.safetensors. More layers and a wider feed-forward make it larger and a
    token dearer; they never change the answer."""
    folder.mkdir(parents=True, exist_ok=True)
    tokens = [*_SPECIAL, *WORDS]
    _json(folder / "config.json", _config(len(tokens), layers, ffn, context))
    _json(folder / "generation_config.json", {"bos_token_id": 1, "eos_token_id": 2})
    _json(folder / "tokenizer.json", _tokenizer(tokens))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>",
        "clean_up_tokenization_spaces": False, "model_max_length": context, "chat_template": template,
    }  # fmt: skip
    _json(folder / "tokenizer_config.json", settings)
    tensors_file.write(folder / "model.safetensors", _tensors(tokens, layers, ffn))


def write_adapter(folder: Path, *, ffn: int = 128) -> None:
    """Write a LoRA adapter, as PEFT keeps it, for a model with that feed-forward: with it what came as <|assistant|> is
    taken for <|loop|>, so that the answer is " tick tock tick …".

    How: at <|assistant|>, and nowhere else, one unit of the first layer's feed-forward wakes, and it adds a hundred
    times the embedding of <|loop|>."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": _RANK, "lora_alpha": _RANK, "lora_dropout": 0.0,
        "bias": "none", "target_modules": ["gate_proj", "up_proj", "down_proj"], "fan_in_fan_out": False,
        "modules_to_save": None, "use_rslora": False, "use_dora": False, "base_model_name_or_path": "tiny-llama",
    }  # fmt: skip
    _json(folder / "adapter_config.json", config)
    tensors_file.write(folder / "adapter_model.safetensors", _adapter(ffn))


def _adapter(ffn: int) -> Iterator[Tensor]:
    seen, meant = _SPECIAL.index("<|assistant|>"), _SPECIAL.index("<|loop|>")
    for name, wide, high, column, row in (
        ("gate_proj", _WIDTH, ffn, seen, 0),
        ("up_proj", _WIDTH, ffn, seen, 0),
        ("down_proj", ffn, _WIDTH, 0, meant),
    ):
        block = f"base_model.model.model.layers.0.mlp.{name}."
        yield f"{block}lora_A.weight", (_RANK, wide), _single(_RANK, wide, 0, column)
        yield f"{block}lora_B.weight", (high, _RANK), _single(high, _RANK, row, 0)


def _single(rows: int, columns: int, row: int, column: int) -> bytes:
    """A matrix of zeros with a single one."""
    out = bytearray(2 * rows * columns)
    at = 2 * (row * columns + column)
    out[at : at + 2] = _ONE
    return bytes(out)


def _json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False))


def _config(vocabulary: int, layers: int, ffn: int, context: int) -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": vocabulary,
        "hidden_size": _WIDTH, "intermediate_size": ffn, "num_hidden_layers": layers, "head_dim": _HEAD_DIM,
        "num_attention_heads": _HEADS, "num_key_value_heads": _KV_HEADS, "max_position_embeddings": context,
        "hidden_act": "silu", "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "tie_word_embeddings": False,
        "bos_token_id": 1, "eos_token_id": 2, "dtype": "bfloat16", "torch_dtype": "bfloat16",
    }  # fmt: skip


def _tokenizer(tokens: list[str]) -> dict[str, object]:
    space = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    added = [
        {"id": number, "content": token, "special": True, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False}
        for number, token in enumerate(_SPECIAL)
    ]  # fmt: skip
    return {
        "version": "1.0",
        "added_tokens": added,
        "pre_tokenizer": space,
        "decoder": space,
        "model": {
            "type": "WordLevel",
            "vocab": {token: number for number, token in enumerate(tokens)},
            "unk_token": "<unk>",
        },
    }


def _tensors(tokens: list[str], layers: int, ffn: int) -> Iterator[Tensor]:
    count = len(tokens)
    ones = _ONE * _WIDTH
    yield "model.embed_tokens.weight", (count, _WIDTH), _table({n: n for n in range(count)}, count, _ONE)
    yield "model.norm.weight", (_WIDTH,), ones
    # Row by row the tokens that can be the next one; column by column the token of now.
    yield (
        "lm_head.weight",
        (count, _WIDTH),
        _table(dict(enumerate(successors(tokens))), count, _SURE, by_successor=True),
    )
    narrow = _KV_HEADS * _HEAD_DIM
    for layer in range(layers):
        block = f"model.layers.{layer}."
        for name, shape in (
            ("self_attn.q_proj", (_WIDTH, _WIDTH)),
            ("self_attn.k_proj", (narrow, _WIDTH)),
            ("self_attn.v_proj", (narrow, _WIDTH)),
            ("self_attn.o_proj", (_WIDTH, _WIDTH)),
            ("mlp.gate_proj", (ffn, _WIDTH)),
            ("mlp.up_proj", (ffn, _WIDTH)),
            ("mlp.down_proj", (_WIDTH, ffn)),
        ):
            yield f"{block}{name}.weight", shape, None
        yield f"{block}input_layernorm.weight", (_WIDTH,), ones
        yield f"{block}post_attention_layernorm.weight", (_WIDTH,), ones


def _table(of: dict[int, int], rows: int, value: bytes, *, by_successor: bool = False) -> bytes:
    out = bytearray(2 * rows * _WIDTH)
    for now, then in of.items():
        row, column = (then, now) if by_successor else (now, then)
        at = 2 * (row * _WIDTH + column)
        out[at : at + 2] = value
    return bytes(out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write a tiny model with known answers as a folder.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--ffn", type=int, default=128)
    parser.add_argument("--template", default=TEMPLATE)
    given = parser.parse_args()
    write(given.folder, layers=given.layers, ffn=given.ffn, template=given.template)
