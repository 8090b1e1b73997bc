"""`oci://` from a real registry: artefacts as ORAS, Docker, the CNCF model format and image builders push them."""

import base64
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest
from tests.models.helpers import GGUF_HEAD, MIB, QUICK, content, safetensors
from tests.support.oci_registry import DockerRegistry
from tests.support.registry import TinyRegistry

from pointsman.api.sources.place import gguf
from pointsman.models.blob import digest_of
from pointsman.models.errors import PullError, PullReason
from pointsman.models.pull import Pulled, PullRequest, pull
from pointsman.models.reference import read_source
from pointsman.models.secret_folder import SecretFolder

TITLE = "org.opencontainers.image.title"
TAR = "application/vnd.oci.image.layer.v1.tar"
FILES = {"config.json": b"{}", "sub/vocab.txt": b"a b", "model.safetensors": safetensors(3 * MIB)}
GGUF = GGUF_HEAD + os.urandom(2 * MIB)


def tar(files: dict[str, bytes], *, gz: bool = False, extra: tuple[tarfile.TarInfo, ...] = ()) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz" if gz else "w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        for member in extra:
            archive.addfile(member)
    return out.getvalue()


def link(name: str, to: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, to
    return member


async def pull_oci(host: str, name: str, store: Path, **changes: Any) -> Pulled:
    source = read_source(f"oci+http://{host}/{name}")
    return await pull(PullRequest(source=source, store=store, policy=QUICK, part_size=MIB, **changes))


ORAS = [({"mediaType": TAR, "annotations": {TITLE: name}}, data) for name, data in FILES.items()]
OLD = {"bin/sh": b"#!", "models/config.json": b"old", "models/gone/a": b"x"}
PACK = "application/vnd.cncf.model.weight.v1"
SHAPES: dict[str, tuple[list[tuple[dict[str, Any], bytes]], dict[str, bytes]]] = {
    "oras": (ORAS, FILES),
    "oras-folder": (
        [
            (
                {
                    "mediaType": f"{TAR}+gzip",
                    "annotations": {TITLE: "sub", "io.deis.oras.content.unpack": "true"},
                },
                tar({"sub/vocab.txt": b"a b"}, gz=True),
            ),
            *[layer for layer in ORAS if layer[0]["annotations"][TITLE] != "sub/vocab.txt"],
        ],
        FILES,
    ),
    "docker-model": (
        [
            ({"mediaType": "application/vnd.docker.ai.gguf.v3"}, GGUF),
            ({"mediaType": "application/vnd.docker.ai.license"}, b"words"),
        ],
        {"model.gguf": GGUF},
    ),
    "model-pack": (
        [
            (
                {"mediaType": f"{PACK}.tar", "annotations": {"org.cncf.model.filepath": "x"}},
                tar({"config.json": b"{}"}),
            ),
            ({"mediaType": f"{PACK}.raw", "annotations": {"org.cncf.model.filepath": "tiny.gguf"}}, GGUF),
        ],
        {"config.json": b"{}", "tiny.gguf": GGUF, "model.gguf": GGUF},
    ),
    "model-car": (
        [
            (
                {"mediaType": f"{TAR}+gzip"},
                tar(OLD, gz=True),
            ),
            (
                {"mediaType": TAR},
                tar(
                    {"models/config.json": b"{}", "models/tiny.gguf": GGUF, "models/.wh.gone": b""},
                    extra=(link("models/passwd", "/etc/passwd"),),
                ),
            ),
        ],
        {"config.json": b"{}", "tiny.gguf": GGUF, "model.gguf": GGUF},
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
async def test_layers_become_files_and_the_manifest_is_the_digest(
    docker_registry: DockerRegistry, store: Path, shape: str
) -> None:
    layers, files = SHAPES[shape]
    digest = docker_registry.push(f"team/{shape}", "1", layers)
    pulled = await pull_oci(docker_registry.host, f"team/{shape}:1", store)
    assert pulled.digest == digest
    assert content(store / pulled.path) == files
    again = await pull_oci(docker_registry.host, f"team/{shape}:1", store)
    assert (again.fetched_bytes, again.digest) == (0, digest)
    kept = {path.name for path in (store / "pointsman/blobs").iterdir()}
    unpacked = [data for fields, data in layers if "tar" in fields["mediaType"] and data not in files.values()]
    archives = {digest_of(data).replace(":", "-") for data in unpacked}
    assert not kept & archives, "archives are not kept beside their files"


async def test_the_only_gguf_has_a_name_that_is_known_before(docker_registry: DockerRegistry, store: Path) -> None:
    docker_registry.push("team/named", "1", [({"mediaType": TAR, "annotations": {TITLE: "q4/tiny.gguf"}}, GGUF)])
    await pull_oci(docker_registry.host, "team/named:1", store)
    source = read_source(f"oci+http://{docker_registry.host}/team/named:1")
    assert (store / gguf(source, None)).read_bytes() == GGUF


async def test_a_path_names_the_file_or_the_folder_that_is_loaded(docker_registry: DockerRegistry, store: Path) -> None:
    names = ("a/one.gguf", "a/two.gguf", "b/config.json")
    layers = [({"mediaType": TAR, "annotations": {TITLE: n}}, GGUF if n[0] == "a" else b"{}") for n in names]
    docker_registry.push("team/several", "1", layers)
    file = await pull_oci(docker_registry.host, "team/several:1/a/two.gguf", store)
    assert (store / file.path).read_bytes() == GGUF
    assert file.path.endswith("/a/two.gguf")
    folder = await pull_oci(docker_registry.host, "team/several:1/b", store)
    assert content(store / folder.path) == {"config.json": b"{}"}
    assert folder.fetched_bytes == 0, "it is the same artefact"
    with pytest.raises(PullError, match="there is no a/t in it") as caught:
        await pull_oci(docker_registry.host, "team/several:1/a/t", store)
    assert caught.value.reason is PullReason.NOT_A_MODEL


async def test_a_pin_is_had_after_the_tag_moved_on(docker_registry: DockerRegistry, store: Path) -> None:
    first = docker_registry.push("team/moving", "1", ORAS)
    second = docker_registry.push("team/moving", "1", ORAS[:1])
    pulled = await pull_oci(docker_registry.host, "team/moving:1", store, digest=first)
    assert content(store / pulled.path) == FILES
    assert (await pull_oci(docker_registry.host, "team/moving:1", store)).digest == second
    with pytest.raises(PullError) as caught:
        await pull_oci(docker_registry.host, "team/moving:1", store, digest="sha256:" + "0" * 64)
    assert caught.value.reason is PullReason.DIGEST_MISMATCH


async def test_an_index_of_one_is_that_one(docker_registry: DockerRegistry, store: Path) -> None:
    inner = docker_registry.push("team/index", "inner", ORAS)
    media = "application/vnd.oci.image.index.v1+json"
    raw = {"schemaVersion": 2, "mediaType": media, "manifests": []}
    entry = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": inner, "size": 1}
    digest = docker_registry.push_manifest("team/index", "1", {**raw, "manifests": [entry]})
    pulled = await pull_oci(docker_registry.host, "team/index:1", store)
    assert pulled.digest == digest
    assert content(store / pulled.path) == FILES
    docker_registry.push_manifest("team/index", "two", {**raw, "manifests": [entry, entry]})
    await failing(docker_registry.host, "team/index:two", store, PullReason.NOT_A_MODEL, "several")


async def failing(host: str, name: str, store: Path, reason: PullReason, word: str, **changes: Any) -> None:
    with pytest.raises(PullError) as caught:
        await pull_oci(host, name, store, **changes)
    assert caught.value.reason is reason, caught.value.message
    assert word in caught.value.message


EVIL = tar({"../../evil": b"x"})


@pytest.mark.parametrize(
    ("layers", "word"),
    [
        ([({"mediaType": TAR}, EVIL)], "outside its folder"),
        ([({"mediaType": TAR, "annotations": {TITLE: "../evil"}}, b"x")], "outside its folder"),
        ([({"mediaType": TAR}, b"no archive at all" * 100)], "cannot be unpacked"),
        ([({"mediaType": f"{TAR}+gzip"}, tar(FILES, gz=True)[:-2000])], "cannot be unpacked"),
        ([({"mediaType": f"{TAR}+zstd"}, b"x")], "zstd"),
        ([({"mediaType": "application/x"}, b"x")], "none of its layers is a file"),
        ([({"mediaType": TAR, "annotations": {TITLE: "m.gguf"}}, b"<html>")], "GGUF"),
    ],
)
async def test_what_is_no_model_is_never_published(
    docker_registry: DockerRegistry, store: Path, tmp_path: Path, layers: list[Any], word: str
) -> None:
    docker_registry.push("team/bad", "1", layers)
    await failing(docker_registry.host, "team/bad:1", store, PullReason.NOT_A_MODEL, word)
    assert not list((store / "pointsman/models").iterdir())
    assert not (tmp_path / "evil").exists()


async def test_unknown_repository_and_tag(docker_registry: DockerRegistry, store: Path) -> None:
    await failing(docker_registry.host, "team/none:1", store, PullReason.UNKNOWN_MODEL, "team/none:1")


@pytest.mark.parametrize("auth", ["basic", "bearer"])
async def test_a_docker_config_opens_the_registry(tree: Path, tmp_path: Path, store: Path, auth: str) -> None:
    blob = next((tree / "blobs").iterdir())
    layer = {
        "mediaType": TAR,
        "annotations": {TITLE: "x.json"},
        "digest": blob.name.replace("-", ":"),
        "size": blob.stat().st_size,
    }
    place = tree / "manifests" / "team" / "oci" / "1"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps({"schemaVersion": 2, "layers": [layer]}))
    folder = tmp_path / "secret"
    folder.mkdir()
    with TinyRegistry(tree, mode="redirect") as registry:
        registry.faults.auth, registry.faults.username, registry.faults.password = auth, "me", "hunter2"
        await failing(registry.host, "team/oci:1", store, PullReason.ACCESS_DENIED, "credentials")
        entry = {"auth": base64.b64encode(b"me:hunter2").decode()}
        (folder / ".dockerconfigjson").write_text(json.dumps({"auths": {f"https://{registry.host}/v1/": entry}}))
        pulled = await pull_oci(registry.host, "team/oci:1", store, secret=SecretFolder(folder))
        assert (store / pulled.path / "x.json").read_bytes() == blob.read_bytes()
        (folder / ".dockerconfigjson").write_text("{")
        secret = SecretFolder(folder)
        await failing(
            registry.host, "team/oci:1", store, PullReason.BAD_CONFIGURATION, ".dockerconfigjson", secret=secret
        )
