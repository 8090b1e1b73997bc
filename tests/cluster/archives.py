"""Image archives (docker-archive, one image each): one made by hand, and the way of any into a containerd."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import platform
import subprocess
import tarfile
from collections.abc import Callable, Collection
from pathlib import Path

from tests.cluster import cache, programs
from tests.cluster.node import PAUSE_IMAGE

_OCI = "application/vnd.oci.image."


def pause_archive(program: Path) -> Path:
    """A docker-archive whose only layer is the pause program: what every pod's sandbox runs."""
    target = program.parent / "image" / "pause.tar"
    if not target.exists():
        with cache.locked("pause"), cache.made_whole(target.parent) as fresh:
            _one_layer_archive(fresh / target.name, PAUSE_IMAGE, {"pause": program.read_bytes()}, ["/pause"])
    return target


def import_archive(socket: Path, archive: Path) -> None:
    """Import a docker-archive where kubelet looks for images, sending only the layers that this containerd lacks.

    Raises RuntimeError.
    """
    present = frozenset(_ctr(socket, "content", "ls", "--quiet").stdout.split())
    # Not by the transfer service, which wants all layers in the archive.
    command = [*_ctr_command(socket), "images", "import", "--local", "-"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if process.stdin is None or process.stdout is None:
        raise AssertionError("asked for pipes")
    with contextlib.suppress(BrokenPipeError):  # it ended early and says why below
        with tarfile.open(archive) as source, tarfile.open(fileobj=process.stdin, mode="w|") as target:
            _as_oci(source, target, present)
        process.stdin.close()
    said = process.stdout.read().decode(errors="replace").strip()
    if process.wait():
        raise RuntimeError(f"containerd does not import {archive}: {said}")


def _as_oci(source: tarfile.TarFile, target: tarfile.TarFile, present: Collection[str]) -> None:
    """Rewrite a docker-archive as an OCI archive, whose blobs may be missing where the reader has them by digest."""
    for entry in json.loads(_read(source, "manifest.json")):
        config = _read(source, entry["Config"])
        layers = []
        for member, digest in zip(entry["Layers"], json.loads(config)["rootfs"]["diff_ids"], strict=True):
            # A layer of a docker-archive is an uncompressed tar, so its digest is what the config calls its diff id.
            info = source.getmember(member)
            while info.issym() or info.islnk():
                info = source.getmember(info.linkname.lstrip("./"))
            layers.append({"mediaType": _OCI + "layer.v1.tar", "digest": digest, "size": info.size})
            if digest not in present:
                blob = tarfile.TarInfo(f"blobs/sha256/{digest.removeprefix('sha256:')}")
                blob.size, blob.mode = info.size, 0o644
                target.addfile(blob, source.extractfile(info))
        described = {"mediaType": _OCI + "config.v1+json", **_add_blob(target, config)}
        manifest = {"schemaVersion": 2, "mediaType": _OCI + "manifest.v1+json", "config": described, "layers": layers}
        found = {"mediaType": _OCI + "manifest.v1+json", **_add_blob(target, json.dumps(manifest).encode())}
        # containerd takes a whole image name from its own annotation only; in the standard one it sees a mere tag.
        index = [{**found, "annotations": {"io.containerd.image.name": tag}} for tag in entry["RepoTags"]]
        _add(target, "index.json", json.dumps({"schemaVersion": 2, "manifests": index}).encode(), 0o644)
    _add(target, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}', 0o644)


def _add_blob(target: tarfile.TarFile, content: bytes) -> dict[str, str | int]:
    digest = hashlib.sha256(content).hexdigest()
    _add(target, f"blobs/sha256/{digest}", content, 0o644)
    return {"digest": f"sha256:{digest}", "size": len(content)}


def _read(source: tarfile.TarFile, name: str) -> bytes:
    member = source.extractfile(name)
    if member is None:
        raise RuntimeError(f"{source.name!r} is no docker-archive: {name} is no file")
    return member.read()


def containerd_answers(socket: Path) -> Callable[[], bool]:
    """A condition to wait for: containerd with its CRI plugin serves on the socket."""

    def answers() -> bool:
        if not socket.exists():
            return False
        done = _ctr(socket, "plugins", "ls", "id==cri")
        return done.returncode == 0 and " ok" in done.stdout

    return answers


def _ctr_command(socket: Path) -> list[str]:
    """containerd's own client, in kubelet's namespace of it."""
    return [str(programs.ensure(["ctr"])["ctr"]), "--namespace", "k8s.io", "--address", str(socket)]


def _ctr(socket: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*_ctr_command(socket), *arguments]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


def _one_layer_archive(target: Path, tag: str, files: dict[str, bytes], entrypoint: list[str]) -> None:
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        for name, content in files.items():
            _add(tar, name, content, 0o755)
    config = {
        "architecture": _architecture(),
        "os": "linux",
        "config": {"Entrypoint": entrypoint, "User": "65535:65535"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer.getvalue()).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [tag], "Layers": ["layer.tar"]}]
    with tarfile.open(target, "w") as tar:
        _add(tar, "layer.tar", layer.getvalue(), 0o644)
        _add(tar, "config.json", json.dumps(config).encode(), 0o644)
        _add(tar, "manifest.json", json.dumps(manifest).encode(), 0o644)


def _add(tar: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), mode
    tar.addfile(info, io.BytesIO(content))


def _architecture() -> str:
    """As images name it, and as Go names it: ``amd64``, ``arm64``."""
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
