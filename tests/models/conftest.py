"""A registry with two models: one of random bytes for the transfer, one that really answers."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.models.helpers import BLOB_BYTES
from tests.support import tiny_model
from tests.support.registry import TinyRegistry, publish


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
