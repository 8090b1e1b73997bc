"""A pull that succeeds: every way a registry may answer, and everything that may be there already."""

import json
import os
import stat
from pathlib import Path

import pytest
from tests.models.helpers import BLOB_BYTES, MIB, assert_whole, pull_noise, tree_bytes
from tests.support.registry import TinyRegistry

from pointsman.domain.report import PullProgress
from pointsman.models.auth import Credentials
from pointsman.models.coverage import Coverage
from pointsman.models.errors import PullError, PullReason
from pointsman.models.journal import whole


@pytest.mark.parametrize("mode", ["redirect", "location", "plain"])
async def test_the_store_holds_what_the_registry_has(tree: Path, tmp_path: Path, mode: str) -> None:
    with TinyRegistry(tree, mode=mode) as registry:
        progress: list[PullProgress] = []
        pulled = await pull_noise(registry, tmp_path, progress=progress)
    assert_whole(tmp_path, tree)
    assert pulled.fetched_bytes == pulled.total_bytes == tree_bytes(tmp_path) == registry.bytes_served
    assert progress[0].total_bytes == 0
    assert progress[-1].state == "Pulled"
    assert progress[-1].completed_bytes == progress[-1].total_bytes == pulled.total_bytes
    assert progress[-1].digest == pulled.digest


async def test_a_registry_that_ignores_ranges_is_read_once(registry: TinyRegistry, tmp_path: Path) -> None:
    registry.faults.ignore_ranges = True
    pulled = await pull_noise(registry, tmp_path)
    assert_whole(tmp_path, registry.root)
    assert registry.bytes_served == pulled.total_bytes


async def test_a_registry_that_ignores_ranges_can_still_be_resumed(registry: TinyRegistry, tmp_path: Path) -> None:
    registry.faults.ignore_ranges = True
    registry.faults.cut_gets, registry.faults.cut_after = 1, 10 * MIB
    pulled = await pull_noise(registry, tmp_path)
    assert_whole(tmp_path, registry.root)
    assert pulled.fetched_bytes == pulled.total_bytes  # what was skipped is not counted twice


async def test_what_is_there_is_not_fetched_again(registry: TinyRegistry, tmp_path: Path) -> None:
    await pull_noise(registry, tmp_path)
    before = registry.bytes_served
    again = await pull_noise(registry, tmp_path)
    assert registry.bytes_served == before
    assert (again.fetched_bytes, again.total_bytes) == (0, before)


async def test_a_blob_that_another_program_wrote_is_checked_not_fetched(registry: TinyRegistry, tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    for blob in (registry.root / "blobs").iterdir():
        (tmp_path / "blobs" / blob.name).write_bytes(blob.read_bytes())
    await pull_noise(registry, tmp_path)
    assert registry.bytes_served == 0
    records = [json.loads(path.read_text()) for path in (tmp_path / ".pointsman" / "blobs").iterdir()]
    assert records
    assert not any(record.get("fetched") for record in records)  # not ours to delete


async def test_a_damaged_blob_of_another_program_is_replaced(registry: TinyRegistry, tmp_path: Path) -> None:
    big = max((registry.root / "blobs").iterdir(), key=lambda path: path.stat().st_size)
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / big.name).write_bytes(bytes(big.stat().st_size))
    await pull_noise(registry, tmp_path)
    assert_whole(tmp_path, registry.root)


async def test_a_lying_journal_costs_a_download_not_the_model(registry: TinyRegistry, tmp_path: Path) -> None:
    big = max((registry.root / "blobs").iterdir(), key=lambda path: path.stat().st_size)
    staging = tmp_path / ".pointsman" / "staging"
    staging.mkdir(parents=True)
    (staging / f"{big.name}.part").write_bytes(bytes(8 * MIB))
    digest = big.name.replace("-", ":")
    (staging / f"{big.name}.journal").write_bytes(whole(digest, BLOB_BYTES, Coverage([(0, 8 * MIB)])))
    await pull_noise(registry, tmp_path)
    assert_whole(tmp_path, registry.root)


async def test_a_pin_that_holds_needs_no_second_look_at_the_registry(registry: TinyRegistry, tmp_path: Path) -> None:
    first = await pull_noise(registry, tmp_path)
    asked = len(registry.served)
    again = await pull_noise(registry, tmp_path, digest=first.digest)
    assert again.digest == first.digest
    assert len(registry.served) == asked


async def test_a_pinned_digest_is_had_after_the_tag_moved_on(registry: TinyRegistry, tmp_path: Path) -> None:
    pinned = (await pull_noise(registry, tmp_path / "a")).digest
    moved = await pull_noise(registry, tmp_path / "b", name="demo/tiny:1")
    assert moved.digest != pinned
    original = registry.root / "manifests" / "demo" / "noise" / "1"
    raw = original.read_bytes()
    original.write_bytes((registry.root / "manifests" / "demo" / "tiny" / "1").read_bytes())
    try:
        assert (await pull_noise(registry, tmp_path / "c", digest=pinned)).digest == pinned
        assert (await pull_noise(registry, tmp_path / "d")).digest == moved.digest
        registry.faults.hide_digests = True
        with pytest.raises(PullError) as caught:
            await pull_noise(registry, tmp_path / "e", digest=pinned)
    finally:
        original.write_bytes(raw)
    assert caught.value.reason is PullReason.DIGEST_MISMATCH
    assert not list((tmp_path / "e" / "blobs").iterdir())


async def test_another_user_of_the_same_group_can_go_on(registry: TinyRegistry, tmp_path: Path) -> None:
    os.chmod(tmp_path, 0o2775)
    before = os.umask(0o077)
    try:
        await pull_noise(registry, tmp_path)
    finally:
        os.umask(before)
    for path in tmp_path.rglob("*"):
        mode = path.stat().st_mode
        shared = path.name == "lock"  # of the store: whoever pulls or cleans up opens it
        assert mode & 0o777 == (0o775 if path.is_dir() else 0o664 if shared else 0o644)
        assert not path.is_dir() or mode & stat.S_ISGID


async def test_the_ledger_names_what_was_written(registry: TinyRegistry, tmp_path: Path) -> None:
    pulled = await pull_noise(registry, tmp_path)
    record = json.loads((tmp_path / ".pointsman/manifests" / f"{pulled.digest.replace(':', '-')}.json").read_text())
    assert record["digest"] == pulled.digest
    assert set(record["names"]) == {
        f"{registry.host}/demo/noise/1",
        f"registry.ollama.ai/pointsman/noise/{pulled.digest.replace(':', '-')}",
    }
    assert {digest.replace(":", "-") for digest in record["blobs"]} == {
        path.name for path in (tmp_path / "blobs").iterdir()
    }


@pytest.mark.parametrize(
    ("auth", "faults", "credentials"),
    [
        ("bearer", {}, Credentials()),
        ("bearer", {"username": "me", "password": "hunter2"}, Credentials("me", "hunter2")),
        ("bearer", {"static_token": "ready"}, Credentials(token="ready")),
        ("basic", {"username": "me", "password": "hunter2"}, Credentials("me", "hunter2")),
    ],
)
async def test_credentials_open_the_registry_and_go_nowhere_else(
    tree: Path, tmp_path: Path, auth: str, faults: dict[str, str], credentials: Credentials
) -> None:
    with TinyRegistry(tree, mode="redirect") as registry:
        registry.faults.auth = auth
        for key, value in faults.items():
            setattr(registry.faults, key, value)
        await pull_noise(registry, tmp_path, credentials=credentials)
    assert_whole(tmp_path, tree)
    redirected = [entry for entry in registry.served if entry.path.startswith("/data/")]
    assert redirected
    assert all(entry.host.startswith("localhost") and not entry.authorization for entry in redirected)
