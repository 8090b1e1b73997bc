"""The base of the test images where no registry is reachable: a small Debian with Python, made by debootstrap.

It stands in for ``python:…-slim``. It is cut down to what runs, because every new cluster unpacks it once.
"""

from __future__ import annotations

import datetime
import subprocess
import sys
from pathlib import Path

from tests.cluster import buildah, cache

_SUITE = "bookworm"
_PACKAGES = ("python3-minimal", "python3-venv", "ca-certificates", "libstdc++6", "libgomp1")
_COMPILER = ("python3-minimal", "python3-venv", "python3-dev", "ca-certificates", "gcc", "libc6-dev")
"""The same Python with what compiling a module of it takes; stands in for ``python:…`` without ``-slim``."""

# Documents, translations, package lists, the package tools themselves and Perl, which only they need. dpkg's status
# stays, so that a scanner still sees what is installed.
_STRIP = """
rm -rf usr/share/doc usr/share/man usr/share/info usr/share/locale usr/share/perl5 usr/share/bash-completion
rm -rf usr/share/common-licenses var/lib/apt var/cache/apt var/cache/debconf
rm -rf var/log usr/lib/apt usr/bin/apt* usr/bin/perl* usr/lib/*/perl-base usr/lib/*/libapt*
rm -rf usr/lib/*/gconv usr/lib/python3.11/test usr/lib/python3.11/idlelib usr/lib/python3.11/lib2to3
rm -rf etc/apt usr/share/debconf var/lib/dpkg/info usr/lib/systemd usr/share/zoneinfo
mkdir -p var/log tmp
chmod 1777 tmp
"""


def key() -> str:
    """The bases of this month and recipe: security updates come in, but not between two runs of a day."""
    month = datetime.datetime.now(datetime.UTC).strftime("%Y-%m")
    return cache.digest(_SUITE, *_PACKAGES, *_COMPILER, _STRIP, month)


def ensure() -> str:
    """Tag of the base image, made if it is missing (about a minute). Raises RuntimeError."""
    return _made("base", _PACKAGES, _STRIP)


def ensure_compiler() -> str:
    """Tag of the image that the program is compiled in, made if it is missing (two minutes). Raises RuntimeError."""
    return _made("compiler", _COMPILER, "rm -rf var/cache/apt var/lib/apt")


def _made(name: str, packages: tuple[str, ...], strip: str) -> str:
    tag = f"localhost/pointsman-{name}:{key()}"
    if not buildah.has(tag):
        print(f"making the {name} image {tag} by debootstrap", file=sys.stderr, flush=True)
        with cache.made_whole(cache.root() / "images" / name) as fresh:
            archive = _bootstrap(fresh, packages, strip)
            buildah.commit_archive(archive, tag)
            archive.unlink()
    return tag


def _bootstrap(folder: Path, packages: tuple[str, ...], strip: str) -> Path:
    root, archive = folder / "root", folder / "base.tar"
    _run("debootstrap", "--variant=minbase", f"--include={','.join(packages)}", _SUITE, str(root))
    _run("sh", "-euc", strip, cwd=root)
    # Device nodes and what debootstrap mounted are the runtime's business.
    _run("tar", "--one-file-system", "--exclude=./dev/*", "--exclude=./proc/*", "-cf", str(archive), ".", cwd=root)
    _run("rm", "-rf", "--one-file-system", str(root))
    return archive


def _run(*command: str, cwd: Path | None = None) -> None:
    done = subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed:\n{(done.stdout + done.stderr).strip()[-2000:]}")
