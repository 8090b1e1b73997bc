"""What decides a model's memory, read from files that a real engine loads."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from tests.support.tiny_model import write

from pointsman.domain.figures import Figures
from pointsman.models.figures import read_figures

KV = 2 * 2 * 64
"""Numbers that a layer of the tiny model keeps for a token: 2 heads, 64 wide, key and value."""


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.gguf"
    write(path, layers=2, ffn=64)
    return path


def test_gguf_that_ollama_and_llama_cpp_run(gguf: Path) -> None:
    found = read_figures(gguf)
    assert found is not None
    assert (found.weights, found.kv) == (gguf.stat().st_size, 2 * KV)
    assert found.context > 0


def test_split_gguf_is_one_model(gguf: Path, tmp_path: Path) -> None:
    first = gguf.rename(tmp_path / "m-00001-of-00002.gguf")
    (tmp_path / "m-00002-of-00002.gguf").write_bytes(b"x" * 100)
    (tmp_path / "other.gguf").write_bytes(b"x" * 1000)
    found = read_figures(first)
    assert found is not None
    assert found.weights == first.stat().st_size + 100


def test_folder_with_a_configuration(tmp_path: Path) -> None:
    config = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 256,
              "max_position_embeddings": 256}  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model-00001-of-00001.safetensors").write_bytes(b"x" * 1000)
    (tmp_path / "consolidated.safetensors").write_bytes(b"x" * 1000)
    assert read_figures(tmp_path) == Figures(weights=1000, kv=2 * 2 * 2 * 64, context=256)


def test_folder_of_mistral_s_own_form(tmp_path: Path) -> None:
    params = {"dim": 4096, "n_layers": 32, "head_dim": 128, "n_heads": 32, "n_kv_heads": 8, "max_seq_len": 32768}
    (tmp_path / "params.json").write_text(json.dumps(params))
    (tmp_path / "consolidated.safetensors").write_bytes(b"x" * 1000)
    assert read_figures(tmp_path) == Figures(weights=1000, kv=65536, context=32768)


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"GGUF",
        struct.pack("<4sIQQ", b"GGUF", 3, 0, 1 << 60),
        struct.pack("<4sIQQQ", b"GGUF", 3, 0, 1, 1 << 60),
        struct.pack("<4sIQQQ4sIIQ", b"GGUF", 3, 0, 1, 4, b"a.bc", 9, 8, 1 << 60),
    ],
)
def test_what_is_no_model_has_no_figures(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(damage)
    assert read_figures(path) is None
    (tmp_path / "config.json").write_bytes(damage)
    assert read_figures(tmp_path) is None
    assert read_figures(tmp_path / "missing") is None
