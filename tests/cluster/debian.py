"""Programs that come from Debian: installed if missing, by apt-get, and never started as services."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

CONTROL_PLANE: Mapping[str, str] = {
    "etcd": "etcd-server",
    "openssl": "openssl",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "gcc": "gcc",
    "/usr/include/stdlib.h": "libc6-dev",
}
NODE: Mapping[str, str] = {
    "runc": "runc",
    "iptables": "iptables",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
}
IMAGES: Mapping[str, str] = {"buildah": "buildah", "debootstrap": "debootstrap"}
COMPILERS: Mapping[str, str] = {"g++": "g++"}
LINKER: Mapping[str, str] = {"gcc": "gcc", "readelf": "binutils", "nm": "binutils"}
CMAKE: Mapping[str, str] = {"cmake": "cmake", "ninja": "ninja-build"}
BENCH: Mapping[str, str] = {"nginx": "nginx-light", "wrk": "wrk"}

_POLICY = Path("/usr/sbin/policy-rc.d")


def ensure(*needs: Mapping[str, str]) -> None:
    """Install the packages whose program is missing. Raises RuntimeError when apt-get cannot."""
    missing = sorted({package for need in needs for program, package in need.items() if not _present(program)})
    if not missing:
        return
    if not shutil.which("apt-get"):
        raise RuntimeError(f"missing programs, and no apt-get to install them: {', '.join(missing)}")
    if os.geteuid():
        raise RuntimeError(f"missing packages; as root: apt-get install {' '.join(missing)}")
    print(f"apt-get install {' '.join(missing)}", file=sys.stderr, flush=True)
    with _no_services():
        _apt("update", "-qq")
        _apt("install", "-qq", "--yes", "--no-install-recommends", *missing)


def unpack(packages: Iterable[str], target: Path) -> None:
    """Download these packages and unpack them below ``target`` without installing them."""
    with tempfile.TemporaryDirectory() as folder:
        # apt reads them as the user _apt where it can.
        Path(folder).chmod(0o755)
        _apt("update", "-qq")
        _apt("download", "-qq", *packages, cwd=Path(folder))
        for archive in Path(folder).glob("*.deb"):
            subprocess.run(["dpkg", "-x", str(archive), str(target)], check=True)


def _present(program: str) -> bool:
    if program.startswith("/"):
        return Path(program).exists()
    # Debian keeps runc and iptables in sbin, which is not on every user's PATH.
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is not None


def _apt(command: str, *arguments: str, cwd: Path | None = None) -> None:
    done = subprocess.run(
        ["apt-get", command, *arguments],
        cwd=cwd,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"apt-get {command} failed:\n{done.stderr.strip()[-2000:]}")


@contextlib.contextmanager
def _no_services() -> Iterator[None]:
    """Keep maintainer scripts from starting etcd, containerd and nginx (policy-rc.d: 101 means "not allowed")."""
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink(missing_ok=True)
