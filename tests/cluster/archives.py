"""Image archives: one made by hand (pause), and the way of any into a cluster's containerd."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

from tests.cluster import cache
from tests.cluster.node import PAUSE_IMAGE


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


def containerd_answers(socket: Path) -> Callable[[], bool]:
    """A condition to wait for: containerd with its CRI plugin serves on the socket."""

    def answers() -> bool:
        if not socket.exists():
            return False
        done = _ctr(socket, "plugins", "ls", "id==cri")
        return done.returncode == 0 and " ok" in done.stdout

    return answers


def _ctr(socket: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["ctr", "--address", str(socket), "--namespace", "k8s.io", *arguments]
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
