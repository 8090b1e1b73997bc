"""A model that is a mounted image: where it is found, how it is linked, and what is said when there is none."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.support import tiny_model

from pointsman.api.sources.oci import OciSource, parse_oci
from pointsman.api.sources.place import gguf, path
from pointsman.cli.main import main
from pointsman.models.errors import PullError, PullReason
from pointsman.models.image_volume import link_image
from pointsman.models.outcome import decode_outcome

PIN = "sha256:" + "a" * 64


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    file = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    tiny_model.write(file)
    return file.read_bytes()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    folder = tmp_path / "image"
    folder.mkdir()
    return folder


def source(inner: str = "") -> OciSource:
    return parse_oci(f"oci://r.test/team/m:1{inner}")


def holds(image: Path, *files: str, data: bytes = b"{}") -> None:
    for name in files:
        (image / name).parent.mkdir(parents=True, exist_ok=True)
        (image / name).write_bytes(data)


def refused(image: Path, store: Path, inner: str = "") -> str:
    with pytest.raises(PullError) as caught:
        link_image(source(inner), None, image, store)
    assert caught.value.reason is PullReason.NOT_A_MODEL
    return caught.value.message


@pytest.mark.parametrize("where", ["", "models/", "models/deeper/"])
def test_the_only_gguf_file_is_where_llama_cpp_is_told_to_look(
    image: Path, store: Path, weights: bytes, where: str
) -> None:
    holds(image, f"{where}q4.gguf", data=weights)
    holds(image, "etc/os-release")
    place, size = link_image(source(), PIN, image, store)
    assert place == store / path(source(), PIN)
    assert (store / gguf(source(), PIN)).read_bytes() == weights
    assert size >= len(weights)


def test_a_folder_with_its_configuration_is_linked_file_by_file(image: Path, store: Path) -> None:
    holds(image, "models/config.json", "models/original/config.json", "root-only/config.json")
    place, size = link_image(source(), None, image, store)
    assert sorted(p.name for p in place.iterdir()) == ["config.json", "original"]
    assert (place / "config.json").read_bytes() == b"{}"
    assert size == 4, "of what lies beside the folder `models` nothing counts"
    assert link_image(source(), None, image, store) == (place, size), "also after a run that was ended half-way"


def test_a_path_names_one_of_several_and_the_parts_beside_it_can_be_reached(
    image: Path, store: Path, weights: bytes
) -> None:
    parts = [f"models/big/m-0000{n}-of-00002.gguf" for n in (1, 2)]
    holds(image, *parts, data=weights)
    holds(image, "models/lora/adapter_config.json")
    first, _ = link_image(source("/big/m-00001-of-00002.gguf"), None, image, store)
    assert first.read_bytes() == weights
    assert (first.parent / "m-00002-of-00002.gguf").exists()
    folder, size = link_image(source("/lora"), None, image, store)
    assert ((folder / "adapter_config.json").exists(), size) == (True, 2)
    said = refused(image, store)
    assert "write its path after the tag" in said
    assert "as in oci://r.test/team/m:1/big/m-00001-of-00002.gguf" in said
    assert "there is no nobody in the image" in refused(image, store, "/nobody")


def test_a_model_further_down_is_named(image: Path, store: Path) -> None:
    holds(image, "models/llama/config.json")
    assert "as in oci://r.test/team/m:1/llama." in refused(image, store)


def test_an_artefact_that_a_node_mounts_as_nothing_is_named(image: Path, store: Path) -> None:
    assert "push it as an image" in refused(image, store)


def test_what_is_no_model_or_was_cut_off_is_named(image: Path, store: Path, weights: bytes) -> None:
    holds(image, "etc/passwd")
    assert "neither config.json" in refused(image, store)
    holds(image, "m.gguf", data=weights[:-1000])
    assert "it was cut off" in refused(image, store)


def test_files_that_pods_may_not_read_are_named(image: Path, store: Path) -> None:
    """As an ordinary user: root may read all."""
    holds(image, "models/config.json")
    (image / "models" / "config.json").chmod(0)
    for folder in (image, *image.parents):
        if not folder.stat().st_mode & 0o001:  # pytest's own, up to its topmost one
            folder.chmod(0o755)
    user = os.getuid() or 65532
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        try:
            os.setuid(user)
            link_image(source(), None, image, store)
        except Exception as error:
            os.write(writer, str(error).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    said = os.read(reader, 4096).decode()
    assert f"models/config.json cannot be read by the user of the pods ({user})" in said


def test_the_command_leaves_what_the_operator_reads(image: Path, store: Path, weights: bytes, tmp_path: Path) -> None:
    holds(image, "m.gguf", data=weights)
    log = tmp_path / "log"
    words = ["--image", str(image), "--store", str(store), "--termination-log", str(log)]
    done = CliRunner().invoke(main, ["link-image", str(source()), "--digest", PIN, *words])
    assert done.exit_code == 0, done.output
    outcome = decode_outcome(log.read_bytes())
    assert (outcome.state, outcome.digest, outcome.total_bytes) == ("Pulled", PIN, len(weights))
    assert outcome.formats == ("GgufInFolder",)
    assert outcome.figures is not None
    assert outcome.figures.weights
    (image / "m.gguf").unlink()
    done = CliRunner().invoke(main, ["link-image", str(source()), *words])
    assert done.exit_code == PullReason.NOT_A_MODEL.exit_code
    assert json.loads(log.read_bytes())["permanent"] is True
    done = CliRunner().invoke(main, ["link-image", "hf://org/repo", *words])
    assert done.exit_code == PullReason.BAD_REFERENCE.exit_code
