"""Standalone: which changes of a directory are seen, and that bad files leave the last good table in service."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.support.engine import until

from pointsman.gateway.sources import files
from pointsman.gateway.sources.files import FileSource, signature
from pointsman.gateway.sources.manifests import ManifestError
from pointsman.gateway.sources.source import SourceStatus
from pointsman.gateway.state import GatewayState

BACKEND = """\
apiVersion: pointsman.dev/v1alpha1
kind: LLMBackend
metadata: {name: hosted}
spec: {engine: External, external: {url: "http://127.0.0.1:9/v1"}, models: [{name: small}]}
"""
ROUTE = """\
apiVersion: pointsman.dev/v1alpha1
kind: ModelRoute
metadata: {name: chat}
spec: {models: [chat], targets: [{backend: hosted, model: small}]}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "b.yaml").write_text(BACKEND)
    (tmp_path / "r.yaml").write_text(ROUTE)
    return tmp_path


def _edit(folder: Path) -> None:
    (folder / "b.yaml").write_text(BACKEND + "# more\n")


def _same_size(folder: Path) -> None:
    path = folder / "b.yaml"
    path.write_text(BACKEND.replace("small", "large"))
    os.utime(path, ns=(1, 1))


def _rename_over(folder: Path) -> None:
    (folder / ".b.yaml.swp").write_text(BACKEND.replace("small", "large"))
    os.replace(folder / ".b.yaml.swp", folder / "b.yaml")


@pytest.mark.parametrize(
    "change",
    [
        _edit,
        _same_size,
        _rename_over,
        lambda folder: (folder / "c.yml").write_text(""),
        lambda folder: (folder / "b.yaml").unlink(),
        lambda folder: (folder / "b.yaml").rename(folder / "a.yaml"),
    ],
)
def test_a_change_of_a_manifest_changes_the_signature(folder: Path, change: Callable[[Path], object]) -> None:
    before = signature(folder)
    assert signature(folder) == before
    change(folder)
    assert signature(folder) != before


def test_other_files_do_not_change_the_signature(folder: Path) -> None:
    before = signature(folder)
    (folder / "notes.txt").write_text("x")
    (folder / ".hidden.yaml").write_text("x")
    (folder / "sub.yaml").mkdir()
    assert signature(folder) == before


def test_the_update_of_a_mounted_config_map_changes_the_signature(tmp_path: Path) -> None:
    for version in ("..v1", "..v2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "b.yaml").write_text(BACKEND)
        os.utime(tmp_path / version / "b.yaml", ns=(5, 5))
    (tmp_path / "..data").symlink_to("..v1")
    (tmp_path / "b.yaml").symlink_to("..data/b.yaml")
    before = signature(tmp_path)
    (tmp_path / "..new").symlink_to("..v2")
    os.replace(tmp_path / "..new", tmp_path / "..data")
    assert signature(tmp_path) != before


def test_a_missing_directory_has_a_signature_of_its_own(tmp_path: Path) -> None:
    assert signature(tmp_path / "away") != signature(tmp_path)


@asynccontextmanager
async def following(folder: Path) -> AsyncIterator[tuple[GatewayState, SourceStatus, FileSource]]:
    state, status = GatewayState("test"), SourceStatus("manifests", str(folder))
    source = FileSource(folder, state, status)
    source.load()
    task = asyncio.create_task(source.run())
    yield state, status, source
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_changed_file_becomes_the_table(folder: Path) -> None:
    async with following(folder) as (state, status, _):
        table = state.table
        (folder / "r.yaml").write_text(ROUTE.replace("[chat]", "[chat, gpt]"))
        await until(lambda: "gpt" in state.table.names)
        assert state.table.routes["chat"].generation == 2
        assert state.table.backends["hosted"] == table.backends["hosted"]
        assert status.reloads == 2


async def test_a_bad_file_keeps_the_last_good_table_until_it_is_mended(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with following(folder) as (state, status, _):
        table = state.table
        (folder / "r.yaml").write_text(ROUTE.replace("targets", "target"))
        await until(lambda: not status.successful)
        assert state.table is table
        assert status.loaded
        assert status.problems == (
            "r.yaml:4: spec.target: unknown field",
            "r.yaml:4: spec.targets: is required",
        )
        assert "the last good ones stay in service" in caplog.text
        (folder / "r.yaml").write_text(ROUTE)
        await until(lambda: status.successful)
        assert state.table is table, "nothing changed: nothing is exchanged"
        assert status.problems == ()


async def test_an_emptied_directory_keeps_the_last_good_table(folder: Path) -> None:
    async with following(folder) as (state, status, _):
        for path in folder.iterdir():
            path.unlink()
        await until(lambda: not status.successful)
        assert list(state.table.routes) == ["chat"]


async def test_a_file_that_is_still_being_written_is_waited_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "SETTLE_SECONDS", 1.0)
    seen: list[int] = []
    async with following(folder) as (state, status, _):
        state.subscribe(lambda _: seen.append(len(state.table.routes)))
        with (folder / "more.yaml").open("w") as file:
            for i in range(40):
                file.write(ROUTE.replace("chat", f"chat-{i}") + "---\n")
                file.flush()
                await asyncio.sleep(0.02)
        await until(lambda: status.reloads == 2)
        assert seen == [41]


async def test_reload_reads_again_at_once(folder: Path) -> None:
    async with following(folder) as (state, _, source):
        stat = (folder / "r.yaml").stat()
        (folder / "r.yaml").write_text(ROUTE.replace("[chat]", "[talk]"))
        os.utime(folder / "r.yaml", ns=(stat.st_atime_ns, stat.st_mtime_ns))
        source.reload()
        await until(lambda: "talk" in state.table.names)


async def test_a_bad_start_is_refused(folder: Path) -> None:
    (folder / "r.yaml").write_text("kind: Nope\n")
    source = FileSource(folder, GatewayState("test"), SourceStatus("manifests", str(folder)))
    with pytest.raises(ManifestError):
        source.load()
