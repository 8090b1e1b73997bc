"""What is no model, or was cut off, is seen by heads and sizes."""

import contextlib
import io
import json
import os
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support import tiny_model

from pointsman.domain.formats import Format
from pointsman.models.errors import PullError, PullReason
from pointsman.models.gguf_extent import needed_bytes
from pointsman.models.model_check import check_model, check_place, formats


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    tiny_model.write(path)
    return path


def refused(path: Path) -> str:
    with pytest.raises(PullError) as caught:
        check_model(path, path.name)
    assert caught.value.reason is PullReason.NOT_A_MODEL
    return caught.value.message


def test_a_real_gguf_file_is_as_long_as_its_head_says(gguf: Path) -> None:
    check_model(gguf, gguf.name)
    with gguf.open("rb") as file:
        needed = needed_bytes(file)
    assert 0 <= gguf.stat().st_size - needed < 64


@pytest.mark.parametrize("left", [0, 3, 20, 1000, 100_000, -100])
def test_a_gguf_file_that_was_cut_off_is_seen(gguf: Path, tmp_path: Path, left: int) -> None:
    cut = tmp_path / "cut.gguf"
    data = gguf.read_bytes()
    cut.write_bytes(data[:left])
    assert "cut.gguf" in refused(cut)


@given(st.binary(max_size=200))
def test_no_bytes_make_the_reader_of_gguf_heads_fail_otherwise(data: bytes) -> None:
    for head in (data, b"GGUF\x03\0\0\0" + data):
        with contextlib.suppress(ValueError):
            assert needed_bytes(io.BytesIO(head)) >= 0


@pytest.mark.parametrize("kind", [0, 1, 8, 12, 14, 39, 99])
def test_tensors_of_each_type_count(kind: int) -> None:
    """One tensor of 1,024 values, alone."""
    tensor = struct.pack("<Q", 1) + b"t" + struct.pack("<IQIQ", 1, 1024, kind, 0)
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + tensor
    sizes = {0: 4096, 1: 2048, 8: 1088, 12: 576, 14: 840, 39: 544, 99: 1}
    assert needed_bytes(io.BytesIO(head)) == len(head) + -len(head) % 32 + sizes[kind]


def shard(path: Path, *, cut: int = 0, header: bytes | None = None) -> Path:
    head = header or json.dumps({"w": {"dtype": "U8", "shape": [100], "data_offsets": [0, 100]}}).encode()
    data = struct.pack("<Q", len(head)) + head + os.urandom(100)
    path.write_bytes(data[: len(data) - cut])
    return path


def test_safetensors_are_as_long_as_their_header_says(tmp_path: Path) -> None:
    check_model(shard(tmp_path / "a.safetensors"), "a.safetensors")
    assert "99 bytes of weights where its header says 100" in refused(shard(tmp_path / "b.safetensors", cut=1))
    assert "header" in refused(shard(tmp_path / "c.safetensors", header=b"{nonsense"))
    assert "begin" in refused(shard(tmp_path / "d.safetensors", cut=150))
    (tmp_path / "e.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    assert "begin" in refused(tmp_path / "e.safetensors")


def test_a_folder_needs_a_configuration_or_a_gguf_file(tmp_path: Path, gguf: Path) -> None:
    with pytest.raises(PullError, match="neither config"):
        check_place(tmp_path, "it")
    (tmp_path / "adapter_config.json").write_bytes(b"{}")
    shard(tmp_path / "adapter_model.safetensors")
    assert check_place(tmp_path, "it") > 100
    shard(tmp_path / "adapter_model.safetensors", cut=7)
    with pytest.raises(PullError, match=r"adapter_model\.safetensors"):
        check_place(tmp_path, "it")
    assert check_place(gguf, "it") == gguf.stat().st_size


@pytest.mark.parametrize(
    ("files", "found"),
    [
        (["model.gguf"], (Format.GGUF_IN_FOLDER,)),
        (["a.gguf", "b.gguf"], ()),
        (["config.json", "model.safetensors"], (Format.CHECKPOINT,)),
        (["params.json"], (Format.CHECKPOINT,)),
        (["sub/config.json"], ()),
        (["adapter_config.json", "config.json"], (Format.CHECKPOINT, Format.ADAPTER)),
    ],
)
def test_what_a_folder_is_to_a_server(files: list[str], found: tuple[Format, ...], tmp_path: Path) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert formats(tmp_path) == found


def test_what_a_file_is_to_a_server(gguf: Path, tmp_path: Path) -> None:
    assert formats(gguf) == (Format.GGUF_FILE,)
    (tmp_path / "weights.bin").write_bytes(b"")
    assert formats(tmp_path / "weights.bin") == ()
