"""Reads what decides a model's memory from its files: the head of a GGUF file, or `config.json` beside the weights.

Reads heads only. A model that is not understood has no figures: nothing depends on them but an estimate. Sources: GGUF
(ggml's `docs/gguf.md`; which layers of an architecture have a sliding window is in llama.cpp's `llama-model.cpp`),
`config.json` (the configuration classes of Hugging Face's transformers), `params.json` (Mistral's own).
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from pointsman.domain.figures import Figures

_MAX_CONFIG = 4 << 20
_MAX_HEAD = 64 << 20
"""Bytes of a GGUF head that are read at most; vocabularies lie there too."""
_OLLAMA_MODEL = "application/vnd.ollama.image.model"
_OLLAMA_PROJECTOR = "application/vnd.ollama.image.projector"
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
_MAX_ARRAY = 4096
"""Longer arrays are vocabularies: skipped."""
_GGUF_WINDOWS = {"gemma2": 2, "gemma3": 6, "gpt-oss": 2, "gptoss": 2, "cohere2": 4}
"""Every how manieth layer has no window, by architecture."""
_ALL_WINDOWED = ("mistral", "mixtral", "phi3", "starcoder2")
"""Model types all of whose layers have the window that the configuration names."""
_SPLIT = re.compile(r"(.*)-\d{5}-of-\d{5}\.gguf")


def read_figures(place: Path) -> Figures | None:
    """`place`: a GGUF file, or a folder with a model. None when it is not understood."""
    try:
        if not place.is_dir():
            return _gguf(place)
        if (config := place / "config.json").is_file():
            return of_config(_json(config), _weights(place))
        if (params := place / "params.json").is_file():
            return of_params(_json(params), _weights(place))
        files = sorted(place.glob("*.gguf"))
        return _gguf(files[0]) if files else None
    except (OSError, ValueError, KeyError, TypeError, struct.error, AttributeError, IndexError, ZeroDivisionError):
        return None


def read_ollama_figures(store: Path, manifest: Path) -> Figures | None:
    """Of a model in Ollama's store. `manifest`: its file."""
    try:
        layers = json.loads(manifest.read_bytes())["layers"]
        blobs = {str(y["mediaType"]): store / "blobs" / str(y["digest"]).replace(":", "-") for y in layers}
        found = _gguf(blobs[_OLLAMA_MODEL])
        if found is not None and (projector := blobs.get(_OLLAMA_PROJECTOR)) is not None:
            return msgspec.structs.replace(found, weights=found.weights + projector.stat().st_size)
        return found
    except (OSError, ValueError, KeyError, TypeError, struct.error):
        return None


def of_config(config: Mapping[str, Any], weights: int) -> Figures:
    """Of a `config.json`. Raises `KeyError`, `TypeError`, `ValueError` for one that is not understood."""
    text: Mapping[str, Any] = config.get("text_config") or config
    layers = int(text["num_hidden_layers"])
    context = int(text.get("max_position_embeddings") or 0)
    if text.get("kv_lora_rank"):  # latent attention: one compressed vector and one key of positions
        width = int(text["kv_lora_rank"]) + int(text["qk_rope_head_dim"])
        return Figures(weights=weights, kv=layers * width, context=context)
    heads = int(text["num_attention_heads"])
    kv_heads = int(text.get("num_key_value_heads") or heads)
    size = int(text.get("head_dim") or int(text["hidden_size"]) // heads)
    width = 2 * kv_heads * size
    window = int(text.get("sliding_window") or 0)
    kinds = text.get("layer_types")
    if kinds:
        full, windowed = kinds.count("full_attention"), kinds.count("sliding_attention") if window else 0
    elif window and text.get("use_sliding_window") is not False and text.get("sliding_window_pattern"):
        full = layers // int(text["sliding_window_pattern"])
        windowed = layers - full
    elif window and text.get("model_type") in _ALL_WINDOWED:
        full, windowed = 0, layers
    else:
        full, windowed = layers, 0
    return Figures(
        weights=weights,
        kv=full * width,
        window_kv=windowed * width,
        window=window if windowed else 0,
        context=context,
    )


def of_params(params: Mapping[str, Any], weights: int) -> Figures:
    """Of a `params.json`. Raises `KeyError`, `TypeError`, `ValueError` for one that is not understood."""
    width = 2 * int(params.get("n_kv_heads") or params["n_heads"]) * int(params["head_dim"])
    return Figures(weights=weights, kv=int(params["n_layers"]) * width, context=int(params.get("max_seq_len") or 0))


def of_gguf(head: Mapping[str, Any], weights: int) -> Figures:
    """Of the metadata of a GGUF file. Raises `KeyError`, `TypeError`, `ValueError` for one that is not understood."""
    arch = str(head["general.architecture"])

    def get(key: str) -> Any:
        return head.get(f"{arch}.{key}")

    layers, context = int(head[f"{arch}.block_count"]), int(get("context_length") or 0)
    if get("attention.kv_lora_rank"):
        width = int(get("attention.kv_lora_rank")) + int(head[f"{arch}.rope.dimension_count"])
        return Figures(weights=weights, kv=layers * width, context=context)
    heads = get("attention.head_count")
    each = heads if isinstance(heads, list) else [int(heads)] * layers
    kv_heads = get("attention.head_count_kv")
    kv_each = each if kv_heads is None else kv_heads if isinstance(kv_heads, list) else [int(kv_heads)] * layers
    size = int(get("embedding_length") or 0) // max(1, max(each))
    width = int(get("attention.key_length") or size) + int(get("attention.value_length") or size)
    window, every = int(get("attention.sliding_window") or 0), _GGUF_WINDOWS.get(arch, 0)
    windowed = [bool(window and every and (i + 1) % every) for i in range(layers)]
    return Figures(
        weights=weights,
        kv=sum(n * width for n, w in zip(kv_each, windowed, strict=True) if not w),
        window_kv=sum(n * width for n, w in zip(kv_each, windowed, strict=True) if w),
        window=window if any(windowed) else 0,
        context=context,
    )


def _gguf(file: Path) -> Figures | None:
    weights = file.stat().st_size
    if split := _SPLIT.fullmatch(file.name):
        weights = sum(f.stat().st_size for f in file.parent.glob("*.gguf") if f.name.startswith(f"{split[1]}-"))
    with file.open("rb") as opened:
        return of_gguf(read_head(opened), weights)


def read_head(file: BinaryIO) -> dict[str, Any]:
    """The metadata of a GGUF file up to its vocabulary. Raises `ValueError`, `struct.error` for what is none."""
    magic, version, _, count = struct.unpack("<4sIQQ", file.read(24))
    if magic != b"GGUF" or version not in (2, 3):
        raise ValueError("no GGUF that is known")
    out: dict[str, Any] = {}
    for _ in range(count):
        if file.tell() > _MAX_HEAD:
            break
        key = _string(file)
        if key.startswith("tokenizer.") and f"{out.get('general.architecture')}.block_count" in out:
            break
        (kind,) = struct.unpack("<I", file.read(4))
        out[key] = _value(file, kind)
    return out


def _value(file: BinaryIO, kind: int) -> Any:
    if kind == _STRING:
        return _string(file)
    if kind != _ARRAY:
        form = _SCALARS[kind]
        return struct.unpack(form, file.read(struct.calcsize(form)))[0]
    of, length = struct.unpack("<IQ", file.read(12))
    if of == _STRING or length <= _MAX_ARRAY:
        items = (_value(file, of) for _ in range(length))
        if length <= _MAX_ARRAY:
            return list(items)
        return _exhaust(items)
    file.seek(length * struct.calcsize(_SCALARS[of]), 1)
    return None


def _exhaust(items: Iterable[Any]) -> None:
    for _ in items:
        pass


def _string(file: BinaryIO) -> str:
    (length,) = struct.unpack("<Q", file.read(8))
    if length > _MAX_CONFIG:
        raise ValueError("a string of a GGUF head is too long")
    return file.read(length).decode("utf-8", "replace")


def _json(file: Path) -> dict[str, Any]:
    with file.open("rb") as opened:
        found = json.loads(opened.read(_MAX_CONFIG))
    if not isinstance(found, dict):
        raise ValueError(f"{file.name} is no object")
    return found


def _weights(folder: Path) -> int:
    """Bytes of the files that a server loads: the shards, else one consolidated file, else PyTorch's own."""
    for pattern in ("model*.safetensors", "*.safetensors", "*.bin", "*.gguf"):
        if files := [f for f in folder.glob(pattern) if f.is_file()]:
            return sum(f.stat().st_size for f in files)
    return 0
