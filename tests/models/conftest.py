"""A registry with two models: one of random bytes for the transfer, one that really answers."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from tests.cluster.programs import ensure
from tests.models.helpers import BLOB_BYTES, LFS, MIB, REPO, safetensors
from tests.support import tiny_model
from tests.support.hub import Hub
from tests.support.oci_registry import DockerRegistry
from tests.support.ports import free_port
from tests.support.registry import TinyRegistry, publish
from tests.support.s3 import S3


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("registry")
    noise = root / "noise"
    noise.write_bytes(os.urandom(BLOB_BYTES))
    publish(root, "demo/noise:1", noise, template="{{ .Prompt }}", params={"num_ctx": 512})
    answering = root / "tiny.gguf"
    tiny_model.write(answering)
    publish(root, "demo/tiny:1", answering, template=tiny_model.TEMPLATE, params=tiny_model.PARAMS)
    return root


@pytest.fixture
def registry(tree: Path) -> Iterator[TinyRegistry]:
    with TinyRegistry(tree) as running:
        yield running


@pytest.fixture
def small_volume(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with 8 MiB. Needs root, as CI has."""
    path = tmp_path / "volume"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(path)], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True)


@pytest.fixture
def read_only_volume(small_volume: Path) -> Path:
    """The same, which nobody can write, not even root."""
    subprocess.run(["mount", "-o", "remount,ro", str(small_volume)], check=True)
    return small_volume


@pytest.fixture(scope="session")
def certificate_and_key(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for loopback that signs itself."""
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "cert.pem", folder / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=tiny"
    names = "subjectAltName=IP:127.0.0.1,DNS:localhost"
    subprocess.run(
        [*command.split(), "-keyout", key, "-out", certificate, "-addext", names], check=True, capture_output=True
    )
    return certificate, key


@pytest.fixture(scope="session")
def ollama_program() -> Path:
    return ensure(["ollama"])["ollama"]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
async def ollama(ollama_program: Path, tmp_path: Path, store: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A running server on an empty store, as a pod of ours runs it."""
    port = free_port()
    environment = {
        **os.environ,
        "HOME": str(tmp_path),
        "OLLAMA_HOST": f"127.0.0.1:{port}",
        "OLLAMA_MODELS": str(store),
        "OLLAMA_NOPRUNE": "1",
    }
    with (tmp_path / "ollama.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(ollama_program, "serve", env=environment, stdout=log, stderr=log)
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            while True:
                assert process.returncode is None, (tmp_path / "ollama.log").read_text()[-2000:]
                try:
                    await client.get("/api/version")
                    break
                except httpx.ConnectError:
                    pass
            yield client
    finally:
        process.terminate()
        await asyncio.wait_for(process.wait(), 60)


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes | Path]:
    root = tmp_path_factory.mktemp("files")
    weights, gguf = root / "model.safetensors", root / "tiny.gguf"
    weights.write_bytes(safetensors(6 * MIB + 100))
    tiny_model.write(gguf)
    return {
        "config.json": b'{"model_type": "llama"}',
        "tokenizer/vocab.json": b"{}",
        "model.safetensors": weights,
        "pytorch_model.bin": os.urandom(100),
        "original/consolidated.00.pth": os.urandom(100),
        "gguf/tiny.gguf": gguf,
        "README.md": b"# Tiny",
    }


@pytest.fixture
def hub(tmp_path: Path, files: dict[str, bytes | Path]) -> Iterator[Hub]:
    hub = Hub(tmp_path / "hub")
    hub.add(REPO, files, lfs=LFS)
    with hub:
        yield hub


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with S3(tmp_path_factory.mktemp("s3"), free_port()) as server:
        yield server


@pytest.fixture(scope="session")
def docker_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    with DockerRegistry(tmp_path_factory.mktemp("oci"), free_port()) as server:
        yield server
