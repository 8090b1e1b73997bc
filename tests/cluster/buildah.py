"""Runs buildah, which needs no daemon, on a storage of our own in the cache."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.cluster import cache

_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"


def build(tag: str, dockerfile: Path, context: Path, arguments: Mapping[str, str]) -> None:
    """Build a Dockerfile, reusing the layers of earlier builds. Raises RuntimeError with the end of the output."""
    with tempfile.TemporaryDirectory() as folder:
        options = [f"--build-arg={key}={value}" for key, value in arguments.items()]
        run("bud", "--layers", "--file", str(dockerfile), "--tag", tag, *options, *_trust(Path(folder)), str(context))


def export(tag: str, archive: Path) -> None:
    """Write the image as a docker-archive, whose layers are uncompressed: it only travels within this machine."""
    run("push", "--quiet", tag, f"docker-archive:{archive}:{tag}")


def has(tag: str) -> bool:
    return _call("inspect", "--type", "image", tag).returncode == 0


def commit_archive(archive: Path, tag: str) -> None:
    """Make an image whose only layer is this tar archive."""
    container = run("from", "scratch").strip()
    try:
        run("add", "--quiet", container, str(archive), "/")
        run("commit", "--quiet", container, tag)
    finally:
        _call("rm", container)


def run(command: str, *arguments: str) -> str:
    """Run one buildah command and return its output. Raises RuntimeError with its last words."""
    done = _call(command, *arguments)
    if done.returncode:
        raise RuntimeError(f"buildah {command} failed:\n{(done.stdout + done.stderr).strip()[-3000:]}")
    return done.stdout


def _call(command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    storage = cache.root() / "images" / "storage"
    storage.mkdir(parents=True, exist_ok=True)
    if os.environ.get("POINTSMAN_VERBOSE"):
        print(f"buildah {command} {' '.join(arguments)}", file=sys.stderr)
    return subprocess.run(
        ["buildah", "--root", str(storage / "root"), "--runroot", str(storage / "run"), command, *arguments],
        # chroot: neither a user namespace nor cgroups are needed, so it works inside most containers too.
        env={**os.environ, "BUILDAH_ISOLATION": "chroot", "STORAGE_DRIVER": "overlay"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def _trust(folder: Path) -> list[str]:
    """Mounts that let pip and uv in a build trust what this machine trusts, where it says so by SSL_CERT_FILE.

    So it works behind a proxy that signs TLS anew, and no image and no Dockerfile knows of it.
    """
    bundle = os.environ.get("SSL_CERT_FILE")
    if not bundle or not Path(bundle).is_file():
        return []
    (folder / "pip.conf").write_text(f"[global]\ncert = {_BUNDLE}\n")
    (folder / "uv.toml").write_text("system-certs = true\n")
    mounts = {bundle: _BUNDLE, f"{folder}/pip.conf": "/etc/pip.conf", f"{folder}/uv.toml": "/etc/uv/uv.toml"}
    return [f"--volume={source}:{target}:ro" for source, target in mounts.items()]
