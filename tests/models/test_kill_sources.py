"""Whatever a model comes from: kills cost little, restarts of the server nothing, and two pulls fetch it once.

The same at 2 GB: `make pulls`.
"""

import asyncio
import hashlib
import os
import random
from pathlib import Path

import pytest
from tests.models.helpers import GGUF_HEAD, MIB, PART_SIZE, finish, start_pull, until
from tests.models.places import KINDS, place

SIZE = 24 * MIB + 777
OVERHEAD = 256 << 10
"""Heads and small answers of a run, where a proxy counts them."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.gguf"
    path.write_bytes(GGUF_HEAD + os.urandom(SIZE - len(GGUF_HEAD)))
    return path


def same(store: Path, model: Path) -> bool:
    """Is the model in the store, byte by byte, and nothing half?"""
    wanted = hashlib.sha256(model.read_bytes()).hexdigest()
    blobs = [path for folder in ("blobs", "pointsman/blobs") for path in (store / folder).glob("*")]
    found = {hashlib.sha256(path.read_bytes()).hexdigest(): path for path in blobs}
    staged = [path for path in (store / ".pointsman").rglob("staging/*") if path.suffix != ".tmp"]
    return wanted in found and all(path.name == f"sha256-{digest}" for digest, path in found.items()) and not staged


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "ollama"])
async def test_each_kill_costs_less_than_a_part(model: Path, tmp_path: Path, store: Path, kind: str) -> None:
    chance, kills = random.Random(kind), 3
    with place(kind, model, tmp_path / "served", rate=30 * MIB) as at:
        begun = at.served()
        for _ in range(kills):
            process = await start_pull(at.source, store, *at.options, **at.env)
            target = at.served() + OVERHEAD + chance.randrange(SIZE // (kills + 1))
            await until(lambda: at.served() > target)  # noqa: B023
            assert process.returncode is None
            process.kill()
            await finish(process)
        code, output = await finish(await start_pull(at.source, store, *at.options, **at.env))
        assert code == 0, output
        assert same(store, model)
        assert at.served() - begun - SIZE < kills * PART_SIZE + (kills + 1) * OVERHEAD


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "ollama"])
async def test_two_backends_fetch_it_once(model: Path, tmp_path: Path, store: Path, kind: str) -> None:
    with place(kind, model, tmp_path / "served", rate=30 * MIB) as at:
        begun = at.served()
        both = [await start_pull(at.source, store, *at.options, **at.env) for _ in range(2)]
        ends = await asyncio.gather(*(finish(process) for process in both))
        assert [code for code, _ in ends] == [0, 0], ends
        assert same(store, model)
        assert at.served() - begun < SIZE + 2 * OVERHEAD


@pytest.mark.parametrize("kind", KINDS)
async def test_a_server_that_restarts_harms_nothing(model: Path, tmp_path: Path, store: Path, kind: str) -> None:
    with place(kind, model, tmp_path / "served", rate=30 * MIB) as at:
        process = await start_pull(at.source, store, *at.options, **at.env)
        begun = at.served()
        await until(lambda: at.served() > begun + SIZE // 3)
        assert process.returncode is None
        await asyncio.to_thread(at.restart)
        code, output = await finish(process)
    assert code == 0, output
    assert same(store, model)
