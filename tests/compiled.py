"""`python -m tests.compiled`: builds this checkout with its data path compiled, and prints the folder it lies in.

    PYTHONPATH=$(python -m tests.compiled) python -m pytest tests/gateway

The folder is in the cache, keyed by the sources; a wheel of the same build is what images hold (`hatch_build.py`).
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from tests.cluster import cache
from tests.cluster.cache import REPOSITORY

_KEPT = 6
"""Other checkouts may be running theirs."""
_SOURCES = ("hatch_build.py", "pyproject.toml", "uv.lock", "README.md", "LICENSE", "operator")


def folder() -> Path:
    """Where the compiled package lies, built if its sources changed (about 40 s). Raises RuntimeError."""
    key = cache.digest(sys.version, cache.digest_of_tree(*(REPOSITORY / name for name in _SOURCES)))
    target = cache.root() / "compiled" / key
    if not target.exists():
        with cache.locked("compiled"):
            if not target.exists():
                with cache.made_whole(target) as fresh:
                    _build(fresh)
                for old in sorted(target.parent.iterdir(), key=lambda f: f.stat().st_mtime)[:-_KEPT]:
                    shutil.rmtree(old)
    return target


def _build(target: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        done = subprocess.run(
            ["uv", "build", "--wheel", "--no-build-isolation", "--python", sys.executable, "-o", scratch, REPOSITORY],
            env={**os.environ, "POINTSMAN_COMPILE": "1"}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"the compiled wheel was not built:\n{(done.stdout + done.stderr)[-3000:]}")
        (wheel,) = Path(scratch).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(target)
    for source in _compiled():
        if not list((target / "pointsman" / source).parent.glob(f"{Path(source).stem}.*.so")):
            raise RuntimeError(f"{source} was not compiled")


def _compiled() -> tuple[str, ...]:
    spec = importlib.util.spec_from_file_location("hatch_build", REPOSITORY / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: tuple[str, ...] = module.COMPILED
    return found


if __name__ == "__main__":
    print(folder())
