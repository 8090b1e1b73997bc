"""`pvc://`: what is in a claim is looked at, hashed and left alone."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from tests.models.helpers import GGUF_HEAD, MIB, safetensors

from pointsman.domain.report import PullProgress
from pointsman.models.blob import Listed, digest_of, folder_digest
from pointsman.models.errors import PullError, PullReason
from pointsman.models.pull import Pulled, PullRequest, pull
from pointsman.models.reference import read_source
from pointsman.models.wait import wait_for_model

GGUF = GGUF_HEAD + os.urandom(MIB)


@pytest.fixture
def claims(tmp_path: Path) -> Path:
    folder = tmp_path / "claims" / "shared" / "llama"
    (folder / "sub").mkdir(parents=True)
    (folder / "config.json").write_bytes(b"{}")
    (folder / "sub" / "model.safetensors").write_bytes(safetensors(MIB))
    (folder.parent / "tiny.gguf").write_bytes(GGUF)
    (folder.parent / "empty").mkdir()
    return tmp_path / "claims"


async def look(source: str, claims: Path, tmp_path: Path, **changes: Any) -> Pulled:
    told: list[PullProgress] = changes.pop("told", [])
    request = PullRequest(source=read_source(source), store=tmp_path / "store", claims=claims, **changes)
    return await pull(request, told.append)


async def test_a_folder_and_a_file_are_hashed_where_they_are(claims: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in claims.rglob("*")}
    told: list[PullProgress] = []
    folder = await look("pvc://shared/llama", claims, tmp_path, told=told)
    root = claims / "shared/llama"
    files = [path for path in root.rglob("*") if path.is_file()]
    listed = [Listed(str(p.relative_to(root)), p.stat().st_size, digest_of(p.read_bytes())) for p in files]
    assert folder.digest == folder_digest(tuple(listed))
    assert (told[-1].state, told[-1].completed_bytes) == ("Pulled", folder.total_bytes)
    file = await look("pvc://shared/tiny.gguf", claims, tmp_path, digest=digest_of(GGUF))
    assert (file.digest, file.path) == (digest_of(GGUF), str(claims / "shared/tiny.gguf"))
    assert {path: path.stat().st_mtime_ns for path in claims.rglob("*")} == before
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("source", "digest", "reason", "word"),
    [
        ("pvc://shared/none", None, PullReason.UNKNOWN_MODEL, "none"),
        ("pvc://other/llama", None, PullReason.UNKNOWN_MODEL, "other"),
        ("pvc://shared/empty", None, PullReason.NOT_A_MODEL, "config.json"),
        ("pvc://shared/tiny.gguf", "sha256:" + "0" * 64, PullReason.DIGEST_MISMATCH, digest_of(GGUF)),
    ],
)
async def test_what_is_wrong_is_said(
    claims: Path, tmp_path: Path, source: str, digest: str | None, reason: PullReason, word: str
) -> None:
    with pytest.raises(PullError) as caught:
        await look(source, claims, tmp_path, digest=digest)
    assert caught.value.reason is reason
    assert word in caught.value.message


async def test_a_shard_that_was_cut_off_is_found(claims: Path, tmp_path: Path) -> None:
    os.truncate(claims / "shared/llama/sub/model.safetensors", MIB // 2)
    with pytest.raises(PullError) as caught:
        await look("pvc://shared/llama", claims, tmp_path)
    assert caught.value.reason is PullReason.NOT_A_MODEL


async def test_a_pod_waits_for_the_place_where_the_claim_is_mounted(
    claims: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pointsman.api.sources.place.CLAIMS_PATH", str(claims))
    place, size = await wait_for_model(read_source("pvc://shared/tiny.gguf"), None, tmp_path / "store", asyncio.sleep)
    assert (place, size) == (claims / "shared/tiny.gguf", len(GGUF))
