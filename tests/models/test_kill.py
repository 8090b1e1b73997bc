"""A pull that is killed goes on where it was; two pulls of one model into one volume fetch it once."""

import asyncio
import random
import signal
from pathlib import Path

import pytest
from tests.models.helpers import (
    BLOB_BYTES,
    MIB,
    PART_SIZE,
    assert_whole,
    finish,
    pull_noise,
    start_command,
    tree_bytes,
    until,
)
from tests.support.registry import TinyRegistry


@pytest.mark.parametrize("seed", [1, 2])
async def test_each_kill_costs_less_than_a_part(tree: Path, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    kills = 4
    with TinyRegistry(tree, mode="redirect", rate=30 * MIB) as registry:
        for round_number in range(1, kills + 1):
            process = await start_command(registry, tmp_path)
            target = registry.bytes_served + chance.randrange(BLOB_BYTES // (kills + 1))
            await until(lambda: registry.bytes_served > target)  # noqa: B023
            assert process.returncode is None, round_number
            process.kill()
            await finish(process)
        code, output = await finish(await start_command(registry, tmp_path))
    assert code == 0, output
    assert_whole(tmp_path, tree)
    assert registry.bytes_served - tree_bytes(tmp_path) < kills * PART_SIZE


async def test_a_polite_stop_is_quick_and_resumable(tree: Path, tmp_path: Path) -> None:
    with TinyRegistry(tree, mode="redirect", rate=10 * MIB) as registry:
        process = await start_command(registry, tmp_path)
        await until(lambda: registry.bytes_served > 8 * MIB)
        before = asyncio.get_running_loop().time()
        process.send_signal(signal.SIGTERM)
        code, output = await finish(process)
        assert asyncio.get_running_loop().time() - before < 15
        assert code == 143, output
        assert '"Interrupted"' in output
        registry.rate = 0
        pulled = await pull_noise(registry, tmp_path)
    assert_whole(tmp_path, tree)
    assert registry.bytes_served - pulled.total_bytes < PART_SIZE


async def test_two_pulls_into_one_store_fetch_each_byte_once(tree: Path, tmp_path: Path) -> None:
    with TinyRegistry(tree, mode="redirect", rate=20 * MIB) as registry:
        both = [await start_command(registry, tmp_path) for _ in range(2)]
        ends = await asyncio.gather(*(finish(process) for process in both))
    assert [code for code, _ in ends] == [0, 0], ends
    assert_whole(tmp_path, tree)
    assert registry.bytes_served == tree_bytes(tmp_path)


async def test_the_other_pull_takes_over_when_the_first_is_killed(tree: Path, tmp_path: Path) -> None:
    with TinyRegistry(tree, mode="redirect", rate=20 * MIB) as registry:
        first = await start_command(registry, tmp_path)
        await until(lambda: registry.bytes_served > 4 * MIB)
        second = await start_command(registry, tmp_path)
        await until(lambda: registry.bytes_served > 16 * MIB)
        first.kill()
        await finish(first)
        code, output = await finish(second)
    assert code == 0, output
    assert_whole(tmp_path, tree)
    assert registry.bytes_served - tree_bytes(tmp_path) < PART_SIZE
