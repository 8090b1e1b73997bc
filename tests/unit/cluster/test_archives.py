"""Archives are rewritten for containerd without the layers that it has."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

from tests.cluster import archives


def rewritten(archive: Path, present: frozenset[str]) -> dict[str, bytes]:
    written = io.BytesIO()
    with tarfile.open(archive) as source, tarfile.open(fileobj=written, mode="w") as target:
        archives._as_oci(source, target, present)
    written.seek(0)
    with tarfile.open(fileobj=written) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]


def test_every_blob_has_the_digest_that_names_it(tmp_path: Path) -> None:
    archives._one_layer_archive(tmp_path / "a.tar", "localhost/a:1", {"run": b"program"}, ["/run"])
    files = rewritten(tmp_path / "a.tar", frozenset())
    blobs = {name.removeprefix("blobs/sha256/"): content for name, content in files.items() if "blobs" in name}
    assert blobs
    for name, content in blobs.items():
        assert hashlib.sha256(content).hexdigest() == name
    index = json.loads(files["index.json"])["manifests"][0]
    assert index["annotations"] == {"io.containerd.image.name": "localhost/a:1"}
    manifest = json.loads(blobs[index["digest"].removeprefix("sha256:")])
    named = [manifest["config"], *manifest["layers"]]
    assert all(len(blobs[entry["digest"].removeprefix("sha256:")]) == entry["size"] for entry in named)


def test_present_layer_does_not_travel(tmp_path: Path) -> None:
    archives._one_layer_archive(tmp_path / "a.tar", "localhost/a:1", {"run": b"program" * 1000}, ["/run"])
    whole = rewritten(tmp_path / "a.tar", frozenset())
    layer = max(whole, key=lambda name: len(whole[name]))
    present = frozenset({"sha256:" + layer.removeprefix("blobs/sha256/")})
    assert set(whole) - set(rewritten(tmp_path / "a.tar", present)) == {layer}
