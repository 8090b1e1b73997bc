"""Image archives: one made by hand (pause), and the way of any into a cluster's containerd."""

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

from tests.cluster import cache
from tests.cluster.node import PAUSE_IMAGE

_CTR = ("ctr", "--namespace", "k8s.io")


def pause_archive(program: Path) -> Path:
    """A docker-archive whose only layer is the pause program: what every pod's sandbox runs."""
    target = program.parent / "image" / "pause.tar"
    if not target.exists():
        with cache.locked("pause"), cache.made_whole(target.parent) as fresh:
            _one_layer_archive(fresh / target.name, PAUSE_IMAGE, {"pause": program.read_bytes()}, ["/pause"])
    return target


def import_archive(socket: Path, archive: Path) -> None:
    """Import a docker-archive or OCI archive where kubelet looks for images. Raises RuntimeError."""
    done = _ctr(socket, "images", "import", str(archive))
    if done.returncode:
        raise RuntimeError(f"containerd does not import {archive.name}: {done.stderr.strip()}")


def import_layout(socket: Path, layout: Path) -> None:
    """Import an OCI layout, sending only the blobs that this containerd lacks. Raises RuntimeError."""
    present = frozenset(_ctr(socket, "content", "ls", "--quiet").stdout.split())
    command = [*_CTR, "--address", str(socket), "images", "import", "-"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if process.stdin is None or process.stdout is None:
        raise AssertionError("asked for pipes")
    with contextlib.suppress(BrokenPipeError):  # it ended early and says why below
        with tarfile.open(fileobj=process.stdin, mode="w|") as tar:
            write_layout(tar, layout, present)
        process.stdin.close()
    said = process.stdout.read().decode(errors="replace").strip()
    if process.wait():
        raise RuntimeError(f"containerd does not import {layout}: {said}")


def write_layout(tar: tarfile.TarFile, layout: Path, present: Collection[str] = ()) -> None:
    """Write an OCI layout as an archive, without the blobs that the reader has (``sha256:…``)."""
    for blob in sorted((layout / "blobs" / "sha256").iterdir()):
        if f"sha256:{blob.name}" not in present:
            tar.add(blob, f"blobs/sha256/{blob.name}")
    index = json.loads((layout / "index.json").read_text())
    for manifest in index["manifests"]:
        # containerd takes the whole image name from its own annotation only; in the standard one it sees a mere tag.
        manifest["annotations"]["io.containerd.image.name"] = manifest["annotations"][
            "org.opencontainers.image.ref.name"
        ]
    _add(tar, "oci-layout", (layout / "oci-layout").read_bytes(), 0o644)
    _add(tar, "index.json", json.dumps(index).encode(), 0o644)


def containerd_answers(socket: Path) -> Callable[[], bool]:
    """A condition to wait for: containerd with its CRI plugin serves on the socket."""

    def answers() -> bool:
        if not socket.exists():
            return False
        done = _ctr(socket, "plugins", "ls", "id==cri")
        return done.returncode == 0 and " ok" in done.stdout

    return answers


def _ctr(socket: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*_CTR, "--address", str(socket), *arguments]
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
