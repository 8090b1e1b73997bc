"""How sources of files are read, where their models lie, and which files of a repository are taken."""

import pytest

from pointsman.api.sources.error import SourceError
from pointsman.api.sources.place import folder, gguf, path
from pointsman.api.sources.source import parse_source
from pointsman.models.blob import Listed, folder_digest
from pointsman.models.choosing import gguf_parts, is_safe, model_files

PIN = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("source", "written"),
    [
        ("hf://org/repo", "hf://org/repo"),
        ("hf://org/repo@main", "hf://org/repo"),
        ("hf://org/repo@v1.0/sub/m.gguf", "hf://org/repo@v1.0/sub/m.gguf"),
        ("https://Files.Example/a/m.gguf", "https://files.example/a/m.gguf"),
        ("http://files.example:8080/m.gguf", "http://files.example:8080/m.gguf"),
        ("s3://models/team/llama/", "s3://models/team/llama"),
        ("s3://models/team/tiny.gguf", "s3://models/team/tiny.gguf"),
        ("oci://Registry.example/team/m", "oci://registry.example/team/m:latest"),
        ("oci+http://reg:5000/m:v1", "oci+http://reg:5000/m:v1"),
        ("oci://reg:5000/team/m:v1/sub/m.gguf", "oci://reg:5000/team/m:v1/sub/m.gguf"),
        ("oci://reg/m:v1/sub/", "oci://reg/m:v1/sub"),
        ("pvc://claim/a/b/", "pvc://claim/a/b"),
    ],
)
def test_a_source_is_written_as_it_is_meant(source: str, written: str) -> None:
    assert str(parse_source(source)) == written
    assert parse_source(written) == parse_source(source)


@pytest.mark.parametrize(
    ("source", "word"),
    [
        ("hf://repo", "is not hf://"),
        ("hf://org/repo@", "is not hf://"),
        ("hf://org/../x", "repository"),
        ("hf://org/repo/../x", "path of a file"),
        ("https://me:pw@host/m.gguf", "secretRef"),
        ("https://host/m.gguf?token=1", "remove what follows"),
        ("https://host/", "path/to/file"),
        ("https://host/a/../m.gguf", "path/to/file"),
        ("https://host/a/m%20x", "letters, digits"),
        ("s3://B/x", "bucket"),
        ("s3://bucket", "s3://bucket/path"),
        ("s3://bucket/a/../b", "s3://bucket/path"),
        ("oci://registry/team/m@sha256:abc", "field `digest`"),
        ("oci://me@registry/team/m", "secretRef"),
        ("oci://registry", "repository"),
        ("oci://registry/m:1/a/../b", "not a path in it"),
        ("oci://registry/Team", "repository"),
        ("pvc://claim", "pvc://claim/path"),
        ("pvc://Claim/x", "PersistentVolumeClaim"),
        ("pvc://claim/../x", "pvc://claim/path"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(source: str, word: str) -> None:
    with pytest.raises(SourceError) as caught:
        parse_source(source)
    assert word in str(caught.value)
    assert "pw" not in str(caught.value)


def test_the_place_of_a_model_is_known_before_and_differs_by_source_and_pin() -> None:
    one, other = parse_source("hf://org/repo/sub/m.gguf"), parse_source("s3://models/team/llama")
    assert path(one, None) == f"{folder(one, None)}/sub/m.gguf" == gguf(one, None)
    assert len({folder(one, None), folder(one, PIN), folder(other, None)}) == 3
    assert (path(other, None), gguf(other, None)) == (folder(other, None), f"{folder(other, None)}/model.gguf")
    assert path(parse_source("https://host/a/m.gguf"), None).endswith("/m.gguf")
    assert path(parse_source("pvc://claim/a/m.gguf"), None) == "/claims/claim/a/m.gguf"


@pytest.mark.parametrize(
    ("files", "taken"),
    [
        (
            ["config.json", "model.safetensors", "pytorch_model.bin", "original/x.pth", "onnx/m.onnx", "a.png"],
            ["config.json", "model.safetensors"],
        ),
        (["config.json", "pytorch_model.bin", ".gitattributes"], ["config.json", "pytorch_model.bin"]),
        (
            ["consolidated.safetensors", "model-00001-of-00002.safetensors", "params.json"],
            ["model-00001-of-00002.safetensors", "params.json"],
        ),
        (["consolidated.safetensors", "params.json"], ["consolidated.safetensors", "params.json"]),
        (["m.gguf", "README.md"], []),
        (
            ["modeling_x.py", "w.safetensors", "chat_template.jinja"],
            ["chat_template.jinja", "modeling_x.py", "w.safetensors"],
        ),
    ],
)
def test_of_weights_in_several_formats_one_is_taken(files: list[str], taken: list[str]) -> None:
    assert list(model_files(files)) == taken


def test_a_split_model_is_all_of_its_parts() -> None:
    assert gguf_parts("q/m-00002-of-00003.gguf") == tuple(f"q/m-{n:05}-of-00003.gguf" for n in (1, 2, 3))
    assert gguf_parts("m.gguf") == ("m.gguf",)


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("a/b.json", True),
        ("../a", False),
        ("/a", False),
        ("a//b", False),
        ("a\\b", False),
        ("a/./b", False),
        ("", False),
    ],
)
def test_paths_that_leave_their_folder_are_seen(name: str, safe: bool) -> None:
    assert is_safe(name) is safe


def test_the_digest_of_a_folder_depends_on_what_is_in_it_and_not_on_the_order() -> None:
    one, two = Listed("a", 1, PIN), Listed("b", 2, PIN)
    assert folder_digest((one, two)) == folder_digest((two, one))
    assert folder_digest((one, Listed("c", 2, PIN))) != folder_digest((one, two)) != folder_digest((one,))
