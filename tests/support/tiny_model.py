"""A tiny model with known answers, as a GGUF file that a real Ollama or llama.cpp runs. Standard library only.

    a prompt that ends in <|assistant|>   → " Hello from the tiny model." and end of text
    a prompt that ends in <|loop|>        → " tick tock tick …" until something stops it
    any other prompt                      → as <|assistant|>

The weights are not random. Attention and feed-forward are zero, so the hidden state is the embedding of the last token;
embeddings are one-hot; and the output matrix is a table that says which token follows which. More layers and a wider
feed-forward make the file larger and a token dearer, they never change the answer:

    layers=2, ffn=64      4.6 MB          layers=8, ffn=8192    315 MB, about 40 ms a token

Run as `python -m tests.support.tiny_model OUT [--layers N] [--ffn N]`.
"""

from __future__ import annotations

import argparse
import struct
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

ANSWER = "Hello from the tiny model."
"""What it says."""
TEMPLATE = "{{ if .System }}<|system|>{{ .System }}{{ end }}<|user|>{{ .Prompt }}<|assistant|>"
"""Ollama's template that makes it give its answer."""
LOOP_TEMPLATE = "<|user|>{{ .Prompt }}<|loop|>"
"""Ollama's template that makes it go on for ever."""
PARAMS: dict[str, int] = {"num_ctx": 512, "num_thread": 1}
"""One thread is by far the fastest on few, busy cores."""

_SENTENCE = ("▁Hello", "▁from", "▁the", "▁tiny", "▁model", ".")
_LOOP = ("▁tick", "▁tock")
WORDS = (*_SENTENCE, *_LOOP)
"""All that it can say."""
_CONTROL = ("<|system|>", "<|user|>", "<|assistant|>", "<|loop|>")
_HEADS, _KV_HEADS, _HEAD_DIM = 6, 2, 64
_WIDTH = _HEADS * _HEAD_DIM
_ALIGNMENT = 32

# value types of GGUF metadata, and token types of a vocabulary
_U32, _I32, _F32, _BOOL, _STRING, _ARRAY = 4, 5, 6, 7, 8, 9
_NORMAL, _UNKNOWN, _CONTROL_TOKEN, _BYTE = 1, 2, 3, 6


@dataclass(frozen=True)
class _Tensor:
    name: str
    shape: tuple[int, ...]
    """Fastest dimension first, as GGUF counts."""
    data: bytes | None = None
    """None: zeros, which are written as a hole."""

    @property
    def size(self) -> int:
        count = 4
        for dimension in self.shape:
            count *= dimension
        return count


def _vocabulary() -> tuple[list[str], list[int], list[float]]:
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{value:02X}>" for value in range(256)), *_CONTROL]
    kinds = [_UNKNOWN, _CONTROL_TOKEN, _CONTROL_TOKEN, *[_BYTE] * 256, *[_CONTROL_TOKEN] * len(_CONTROL)]
    scores = [0.0] * len(tokens)
    words = ["▁", *WORDS]
    return tokens + words, kinds + [_NORMAL] * len(words), scores + [-1.0 - i for i in range(len(words))]


def successors(tokens: Sequence[str]) -> list[int]:
    """For each token, the one that follows it."""
    index = {token: number for number, token in enumerate(tokens)}
    following = [index[_SENTENCE[0]]] * len(tokens)
    for now, then in zip(_SENTENCE, (*_SENTENCE[1:], "</s>"), strict=True):
        following[index[now]] = index[then]
    following[index["<|loop|>"]] = index[_LOOP[0]]
    for now, then in zip(_LOOP, (*_LOOP[1:], _LOOP[0]), strict=True):
        following[index[now]] = index[then]
    return following


def _tensors(layers: int, ffn: int, following: Sequence[int]) -> Iterator[_Tensor]:
    count = len(following)
    embedding = array("f", bytes(4 * count * _WIDTH))
    output = array("f", bytes(4 * count * _WIDTH))
    for token, successor in enumerate(following):
        embedding[token * _WIDTH + token] = 1.0
        output[successor * _WIDTH + token] = 1.0
    ones = array("f", [1.0] * _WIDTH).tobytes()
    yield _Tensor("token_embd.weight", (_WIDTH, count), embedding.tobytes())
    yield _Tensor("output_norm.weight", (_WIDTH,), ones)
    yield _Tensor("output.weight", (_WIDTH, count), output.tobytes())
    narrow = _KV_HEADS * _HEAD_DIM
    for layer in range(layers):
        block = f"blk.{layer}."
        for name, shape in (
            ("attn_q", (_WIDTH, _WIDTH)),
            ("attn_k", (_WIDTH, narrow)),
            ("attn_v", (_WIDTH, narrow)),
            ("attn_output", (_WIDTH, _WIDTH)),
            ("ffn_gate", (_WIDTH, ffn)),
            ("ffn_up", (_WIDTH, ffn)),
            ("ffn_down", (ffn, _WIDTH)),
        ):
            yield _Tensor(f"{block}{name}.weight", shape)
        yield _Tensor(f"{block}attn_norm.weight", (_WIDTH,), ones)
        yield _Tensor(f"{block}ffn_norm.weight", (_WIDTH,), ones)


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _entry(key: str, kind: int, value: bytes) -> bytes:
    return _string(key) + struct.pack("<I", kind) + value


def _metadata(layers: int, ffn: int, context: int, name: str, chat_template: str) -> list[bytes]:
    tokens, kinds, scores = _vocabulary()

    def number(key: str, value: int) -> bytes:
        return _entry(key, _U32, struct.pack("<I", value))

    def text(key: str, value: str) -> bytes:
        return _entry(key, _STRING, _string(value))

    def flag(key: str, value: bool) -> bytes:
        return _entry(key, _BOOL, struct.pack("<?", value))

    def listing(key: str, kind: int, items: Sequence[bytes]) -> bytes:
        return _entry(key, _ARRAY, struct.pack("<IQ", kind, len(items)) + b"".join(items))

    optional = [text("tokenizer.chat_template", chat_template)] if chat_template else []
    return [
        *optional,
        text("general.architecture", "llama"),
        text("general.name", name),
        number("general.file_type", 0),
        number("general.quantization_version", 2),
        number("llama.block_count", layers),
        number("llama.context_length", context),
        number("llama.embedding_length", _WIDTH),
        number("llama.feed_forward_length", ffn),
        number("llama.attention.head_count", _HEADS),
        number("llama.attention.head_count_kv", _KV_HEADS),
        _entry("llama.attention.layer_norm_rms_epsilon", _F32, struct.pack("<f", 1e-5)),
        number("llama.rope.dimension_count", _HEAD_DIM),
        number("llama.vocab_size", len(tokens)),
        text("tokenizer.ggml.model", "llama"),
        listing("tokenizer.ggml.tokens", _STRING, [_string(token) for token in tokens]),
        listing("tokenizer.ggml.scores", _F32, [struct.pack("<f", score) for score in scores]),
        listing("tokenizer.ggml.token_type", _I32, [struct.pack("<i", kind) for kind in kinds]),
        number("tokenizer.ggml.bos_token_id", 1),
        number("tokenizer.ggml.eos_token_id", 2),
        number("tokenizer.ggml.unknown_token_id", 0),
        flag("tokenizer.ggml.add_bos_token", True),
        flag("tokenizer.ggml.add_space_prefix", False),
    ]


def write(
    path: Path,
    *,
    layers: int = 2,
    ffn: int = 64,
    context: int = 2048,
    name: str = "tiny",
    chat_template: str = "",
) -> int:
    """Writes the model to `path` and returns its size in bytes. The same arguments give the same bytes.

    Another `name` gives other bytes with the same behaviour. `chat_template` (Jinja) is what
    llama.cpp goes by; Ollama has its own.
    """
    metadata = _metadata(layers, ffn, context, name, chat_template)
    tensors = list(_tensors(layers, ffn, successors(_vocabulary()[0])))
    with path.open("wb") as file:
        file.write(b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata)) + b"".join(metadata))
        offset = 0
        for tensor in tensors:
            shape = struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *tensor.shape)
            file.write(_string(tensor.name) + shape + struct.pack("<IQ", 0, offset))
            offset += tensor.size + -tensor.size % _ALIGNMENT
        _align(file)
        for tensor in tensors:
            if tensor.data is None:
                file.seek(tensor.size, 1)
            else:
                file.write(tensor.data)
            _align(file)
        file.truncate()
        return file.tell()


def _align(file: BinaryIO) -> None:
    file.seek(-file.tell() % _ALIGNMENT, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the tiny model.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--ffn", type=int, default=64)
    parser.add_argument("--name", default="tiny")
    arguments = parser.parse_args()
    size = write(arguments.out, layers=arguments.layers, ffn=arguments.ffn, name=arguments.name)
    print(f"{arguments.out} {size}")


if __name__ == "__main__":
    main()
