"""Manifests in files: what is read, and that each problem is told with its file, line and reason."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest

from pointsman.gateway.sources.manifests import ManifestError, load

BACKEND = """\
apiVersion: pointsman.dev/v1alpha1
kind: LLMBackend
metadata:
  name: hosted
spec:
  engine: External
  external:
    url: https://api.example/v1
    secretRef: {name: key}
  models:
  - name: small
"""
ROUTE = """\
apiVersion: pointsman.dev/v1alpha1
kind: ModelRoute
metadata:
  name: chat
spec:
  models: [chat]
  targets:
  - backend: hosted
    model: small
"""
SECRET = """\
apiVersion: v1
kind: Secret
metadata: {name: key}
stringData:
  api-key: sk-sesame
"""
NAME_RULE = (
    "metadata.name must have at most 50 lower-case letters, digits and '-', beginning with a letter and ending with a"
    " letter or digit (the names of its Service and Deployment are made from it)"
)
URL_RULE = (
    "must be the API's base URL with http or https, such as https://api.openai.com/v1 or http://vllm.team.svc:8000/v1"
)


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        stem, _, suffix = name.rpartition("_")
        (folder / f"{stem}.{suffix}").write_text(text)
    return folder


def problems(folder: Path) -> list[str]:
    with pytest.raises(ManifestError) as caught:
        load(folder)
    return [str(p) for p in caught.value.problems]


def test_one_file_or_many_say_the_same(tmp_path: Path) -> None:
    one, many = tmp_path / "one", tmp_path / "many"
    one.mkdir()
    many.mkdir()
    write(one, all_yaml="---\n".join([BACKEND, ROUTE, SECRET]))
    write(many, a_yaml=BACKEND, b_yml=ROUTE, c_yaml=SECRET, notes_txt="not a manifest")
    assert load(one) == load(many)
    assert load(one).secrets["key"].data == {"api-key": "sk-sesame"}
    assert load(one).backends["hosted"].spec.external is not None
    assert load(one).routes["chat"].spec.targets[0].backend == "hosted"


def test_json_with_tabs_and_base64_data(tmp_path: Path) -> None:
    write(
        tmp_path,
        secret_json='{\n\t"apiVersion": "v1", "kind": "Secret",\n\t"metadata": {"name": "key"},\n\t"data": {"api-key":"'
        + base64.b64encode(b"sk-1").decode()
        + '"}\n}\n',
    )
    assert load(tmp_path).secrets["key"].data == {"api-key": "sk-1"}


def test_what_kubectl_get_prints_is_read(tmp_path: Path) -> None:
    exported = BACKEND.replace(
        "  name: hosted\n",
        "  name: hosted\n  namespace: team\n  uid: 1-2\n  generation: 7\n  creationTimestamp: 2026-01-02T03:04:05Z\n",
    )
    write(tmp_path, a_yaml=exported + "status:\n  observedGeneration: 7\n")
    read = load(tmp_path).backends["hosted"].meta
    assert (read.generation, read.created, read.namespace) == (1, "", "")


def test_a_mounted_config_map_is_read(tmp_path: Path) -> None:
    real = tmp_path / "..2026_01_01"
    real.mkdir()
    write(real, a_yaml=BACKEND)
    (tmp_path / "..data").symlink_to("..2026_01_01")
    (tmp_path / "a.yaml").symlink_to("..data/a.yaml")
    assert list(load(tmp_path).backends) == ["hosted"]


def test_generation_and_version_count_changes_of_content(tmp_path: Path) -> None:
    first = load(write(tmp_path, a_yaml="---\n".join([BACKEND, ROUTE, SECRET])))
    same = load(write(tmp_path, a_yaml="# a comment\n" + "---\n".join([SECRET, ROUTE, BACKEND])), first)
    assert same == first
    second = load(write(tmp_path, a_yaml="---\n".join([BACKEND, ROUTE, SECRET.replace("sesame", "tahini")])), same)
    assert (second.backends["hosted"].meta.generation, second.secrets["key"].version) == (1, "2")
    third = load(write(tmp_path, a_yaml="---\n".join([BACKEND.replace("small", "large"), ROUTE])), second)
    assert (third.backends["hosted"].meta.generation, third.routes["chat"].meta.generation) == (2, 1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (BACKEND.replace("https:", "ftp:"), [f"f.yaml:8: spec.external.url: {URL_RULE}"]),
        (BACKEND.replace("secretRef", "secret_ref"), ["f.yaml:9: spec.external.secret_ref: unknown field"]),
        (BACKEND.replace("  models:\n  - name: small\n", ""), ["f.yaml:5: spec.models: is required"]),
        (BACKEND + "  - name: small\n", ["f.yaml:10: spec.models: duplicate name 'small'"]),
        (BACKEND + "  replicas: 2\n", ["f.yaml:5: spec: engine External runs no pods: replicas cannot be set"]),
        (BACKEND.replace("name: hosted", "name: 4o-mini"), [f"f.yaml:4: {NAME_RULE}"]),
        (BACKEND.replace("name: hosted", "labels: {a: b}"), [f"f.yaml:3: {NAME_RULE}"]),
        (BACKEND.replace("  name: hosted\n", "  name: hosted\n  name: other\n"),
         ["f.yaml:5: the key name stands twice in one map"]),
        (BACKEND + "extra: 1\n", ["f.yaml:12: extra: unknown field"]),
        (BACKEND.replace("engine: External", "engine: Ollama"),
         ["f.yaml:6: spec.engine: Ollama needs a cluster, where the operator runs it; for an Ollama that already runs"
          " write engine: External and the URL of its OpenAI API, such as http://127.0.0.1:11434/v1, under"
          " external.url"]),
        (BACKEND.replace("engine: External", "engine: Llama"),
         ["f.yaml:6: spec.engine: Input should be 'Ollama', 'VLLM', 'LlamaCpp', 'Custom' or 'External'"]),
        (BACKEND.replace("v1alpha1", "v1"), ["f.yaml:1: apiVersion of kind LLMBackend must be pointsman.dev/v1alpha1"]),
        (BACKEND.replace("LLMBackend", "Deployment"),
         ["f.yaml:2: kind Deployment is not read from files: only LLMBackend, ModelRoute, Secret and ConfigMap are"]),
        ("a: 1\n", ["f.yaml:1: kind is missing: only LLMBackend, ModelRoute, Secret and ConfigMap are"]),
        ("- a\n", ["f.yaml:1: must be an object with apiVersion, kind, metadata and spec"]),
        (ROUTE + "  timeouts: {idle: 2 minutes}\n",
         ["f.yaml:10: spec.timeouts.idle: must be a duration such as 500ms, 5s, 2m or 1h30m"]),
        (ROUTE + "    priority: high\n",
         ["f.yaml:10: spec.targets[0].priority: Input should be a valid integer"]),
        (ROUTE + "    priority: '1'\n", ["f.yaml:10: spec.targets[0].priority: Input should be a valid integer"]),
        (ROUTE.replace("[chat]", "chat"), ["f.yaml:6: spec.models: Input should be a valid array"]),
        (ROUTE.replace("[chat]", "!!set {chat}"),
         ["f.yaml:5: spec: must hold what JSON can: maps, lists, text, numbers, true and false"]),
        (ROUTE + "  - {backend: other}\n  - {model: x, wait: 1}\n",
         ["f.yaml:10: spec.targets[1].model: is required", "f.yaml:11: spec.targets[2].backend: is required",
          "f.yaml:11: spec.targets[2].wait: unknown field"]),
        (SECRET.replace("sk-sesame", "1234"), ["f.yaml:5: stringData.api-key: must be text: put it in quotes"]),
        (SECRET.replace("stringData", "data"),
         ["f.yaml:5: data.api-key: must be text in base64; plain text belongs under stringData"]),
        (SECRET.replace("name: key", "name: Key!"),
         ["f.yaml:3: metadata.name must be the name of an object: lower-case letters, digits, '-' and '.'"]),
        ("a: [1\nb: 2\n", ["f.yaml:2: is not YAML: expected ',' or ']', but got ':'"]),
        ("a: !!python/object:os.system {}\n",
         ["f.yaml:1: is not YAML: could not determine a constructor for the tag"
          " 'tag:yaml.org,2002:python/object:os.system'"]),
    ],
)  # fmt: skip
def test_a_problem_has_file_line_and_reason(tmp_path: Path, text: str, expected: list[str]) -> None:
    assert problems(write(tmp_path, f_yaml=text)) == expected


def test_all_problems_of_all_files_are_told(tmp_path: Path) -> None:
    write(tmp_path, b_yaml=BACKEND.replace("https:", "ftp:"), a_yaml=ROUTE + "  more: 1\n", c_json='{"a":\n')
    assert problems(tmp_path) == [
        "a.yaml:10: spec.more: unknown field",
        f"b.yaml:8: spec.external.url: {URL_RULE}",
        "c.json:2: is not JSON: Expecting value",
    ]


def test_a_duplicate_is_named_with_both_places(tmp_path: Path) -> None:
    write(tmp_path, a_yaml=ROUTE + "---\n" + BACKEND, b_yaml=BACKEND)
    assert problems(tmp_path) == [
        "b.yaml:4: LLMBackend hosted is already defined in a.yaml:14: remove one of them",
    ]


def test_a_secret_never_stands_in_a_problem(tmp_path: Path) -> None:
    text = SECRET + '  other: 1\n  "a b": sk-hidden\ndata:\n  k: sk-hidden!\nsk-unknown: 1\n'
    assert "sk-hidden" not in "".join(problems(write(tmp_path, f_yaml=text)))
    assert "sk-sesame" not in repr(load(write(tmp_path, f_yaml=SECRET)))


def test_nothing_to_serve_is_a_problem(tmp_path: Path) -> None:
    sentence = "holds no manifests: put LLMBackend and ModelRoute in .yaml, .yml or .json files"
    assert problems(write(tmp_path, f_txt=BACKEND)) == [f"{tmp_path}: {sentence}"]
    assert problems(tmp_path / "away") == [f"{tmp_path / 'away'}: cannot be read: No such file or directory"]


def test_only_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "folder.yaml").mkdir()
    write(tmp_path, a_yaml=BACKEND)
    assert list(load(tmp_path).backends) == ["hosted"]


def test_what_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").symlink_to("away.yaml")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe")
    assert problems(tmp_path) == [
        "a.yaml: cannot be read: No such file or directory",
        "b.yaml: is not text in UTF-8",
    ]
