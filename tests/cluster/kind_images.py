"""Images for a kind cluster: Docker builds or pulls them, kind loads them."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.cluster import images
from tests.cluster.cache import REPOSITORY
from tests.cluster.programs import vllm_cpu

_OFFICIAL = {
    images.OLLAMA: f"docker.io/ollama/ollama:{images.OLLAMA.rpartition(':')[2]}",
    images.LLAMA_CPP: "ghcr.io/ggml-org/llama.cpp:server",
    images.VLLM: f"public.ecr.aws/q9t5s3a7/vllm-cpu-release-repo:v{vllm_cpu.version()}",
}
"""What stands for our own builds where images can be pulled."""


def load(cluster: str, image: str | Path) -> None:
    """Load a test image by tag, or an archive by path, into every node. Raises RuntimeError, ValueError."""
    if isinstance(image, Path):
        _run("kind", "load", "image-archive", str(image), "--name", cluster)
        return
    if image == images.POINTSMAN:
        _run("docker", "build", "--file", str(images.DOCKERFILE), "--tag", image, str(REPOSITORY))
    elif image in _OFFICIAL:
        official = _OFFICIAL[image]
        _run("docker", "pull", official)
        _run("docker", "tag", official, image)
    else:
        raise ValueError(f"{image} is none of the test images: {', '.join(images.TAGS)}")
    _run("kind", "load", "docker-image", image, "--name", cluster)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()[-2000:]}")
