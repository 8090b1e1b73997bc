"""What the tests of pulls share."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import struct
import sys
from pathlib import Path
from typing import Any

from tests.support.hub import Hub
from tests.support.registry import TinyRegistry

from pointsman.domain.report import PullProgress
from pointsman.models import journal
from pointsman.models.auth import ANONYMOUS
from pointsman.models.pull import Pulled, PullRequest, pull
from pointsman.models.reference import read_source
from pointsman.models.retry import RetryPolicy
from pointsman.models.secret_folder import SecretFolder

MIB = 1 << 20
BLOB_BYTES = 24 * MIB + 12_345
PART_SIZE = 4 * MIB
REPO = "acme/tiny"
"""A repository of the tests' Hub."""
LFS = ("model.safetensors", "gguf/tiny.gguf")
GGUF_HEAD = b"GGUF\x03" + bytes(19)
"""Of a GGUF file without tensors: whatever follows is padding."""
QUICK = RetryPolicy(attempts=3, base_seconds=0.01, cap_seconds=0.05)


async def pull_noise(registry: TinyRegistry, store: Path, **changes: Any) -> Pulled:
    """Pulls the model of random bytes; `progress` collects what is told."""
    progress: list[PullProgress] = changes.pop("progress", [])
    name = changes.pop("name", "demo/noise:1")
    values: dict[str, Any] = {"part_size": PART_SIZE, "policy": QUICK, "credentials": ANONYMOUS, **changes}
    source = values.pop("source", None) or read_source(f"ollama+http://{registry.host}/{name}")
    return await pull(PullRequest(source=source, store=store, **values), progress.append)


def assert_whole(store: Path, tree: Path, names: int = 2) -> None:
    """Each blob in the store has its digest, each manifest is the registry's, and nothing is left in staging."""
    blobs = list((store / "blobs").iterdir())
    assert blobs
    for blob in blobs:
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name.removeprefix("sha256-")
        assert blob.stat().st_mode & 0o777 == 0o644
    manifests = [path for path in (store / "manifests").rglob("*") if path.is_file()]
    assert len(manifests) == names
    originals = {path.read_bytes() for path in (tree / "manifests").rglob("*") if path.is_file()}
    assert all(path.read_bytes() in originals for path in manifests)
    assert [path for path in (store / ".pointsman" / "staging").iterdir() if path.suffix != ".tmp"] == []


def tree_bytes(store: Path) -> int:
    """Bytes of all blobs in a store."""
    return sum(blob.stat().st_size for blob in (store / "blobs").iterdir())


def kept_bytes(store: Path) -> int:
    """What the next pull into a store will not ask for again: whole blobs, and what journals say of half ones."""
    whole = sum(
        blob.stat().st_size for name in ("blobs", "pointsman/blobs") for blob in (store / name).glob("sha256-*")
    )
    half = 0
    for path in (store / ".pointsman").rglob("*.journal"):
        text = path.read_bytes()
        _, name, size, _ = text.partition(b"\n")[0].decode().split(" ")
        file = path.with_suffix(".part")
        there = file.stat().st_size if file.exists() else 0  # else it is whole, and in its place already
        half += journal.replay(text, name, int(size)).clipped(there).total
    return whole + half


async def start_command(registry: TinyRegistry, store: Path, *options: str, **env: str) -> asyncio.subprocess.Process:
    """`pointsman pull` of the model of random bytes, as a process of its own."""
    return await start_pull(f"ollama+http://{registry.host}/demo/noise:1", store, *options, **env)


async def start_pull(source: str, store: Path, *options: str, **env: str) -> asyncio.subprocess.Process:
    """`pointsman pull` as a process of its own."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pointsman", "pull", source, "--store", str(store), "--part-size", "4Mi", *options),
        env={**os.environ, **env},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def finish(process: asyncio.subprocess.Process) -> tuple[int, str]:
    """Waits for its end; the exit code and what it said."""
    output, _ = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode is not None
    return process.returncode, output.decode()


async def until(condition: Any, seconds: float = 60.0) -> None:
    """Waits for a condition that another process brings about."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def safetensors(size: int) -> bytes:
    """A file of the format with one tensor of random bytes."""
    header = json.dumps({"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    return struct.pack("<Q", len(header)) + header + os.urandom(size)


async def pull_from(hub: Hub, source: str, store: Path, **changes: Any) -> Pulled:
    progress: list[PullProgress] = changes.pop("progress", [])
    secret = SecretFolder(None, {"HF_ENDPOINT": hub.endpoint})
    values: dict[str, Any] = {"part_size": 4 * MIB, "policy": QUICK, "secret": secret, **changes}
    return await pull(PullRequest(source=read_source(source), store=store, **values), progress.append)


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a published folder, as a server reads it."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def as_bytes(files: dict[str, bytes | Path], *names: str) -> dict[str, bytes]:
    found = {name: files[name] for name in names}
    return {name: value if isinstance(value, bytes) else value.read_bytes() for name, value in found.items()}
