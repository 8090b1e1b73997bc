"""`hf://` from a Hub: repositories and files into folders, with what the Hub and its hosts may do in between."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.models.helpers import GGUF_HEAD, LFS, MIB, REPO, as_bytes, content, pull_from, safetensors
from tests.support.hub import Hub

from pointsman.api.sources.place import path as place
from pointsman.cli.pull import pull as command
from pointsman.domain.report import PullProgress
from pointsman.models.auth import Credentials
from pointsman.models.errors import PullError, PullReason
from pointsman.models.pull import Refresh
from pointsman.models.reference import read_source
from pointsman.models.secret_folder import SecretFolder

SERVED = ("config.json", "tokenizer/vocab.json", "model.safetensors", "README.md")


async def test_a_repository_becomes_a_folder_without_what_is_for_others(
    hub: Hub, store: Path, files: dict[str, bytes | Path]
) -> None:
    progress: list[PullProgress] = []
    pulled = await pull_from(hub, f"hf://{REPO}", store, progress=progress)
    assert pulled.path == place(read_source(f"hf://{REPO}"), None)
    assert content(store / pulled.path) == as_bytes(files, *SERVED)
    assert pulled.fetched_bytes == pulled.total_bytes == hub.bytes_served
    assert (progress[-1].state, progress[-1].digest) == ("Pulled", pulled.digest)
    assert not list((store / ".pointsman/folders/staging").iterdir())


async def test_the_digest_is_that_of_the_canonical_listing(hub: Hub, store: Path) -> None:
    pulled = await pull_from(hub, f"hf://{REPO}", store)
    found = content(store / pulled.path)
    lines = [f"{hashlib.sha256(found[name]).hexdigest()} {len(found[name])} {name}\n" for name in sorted(found)]
    assert pulled.digest == "sha256:" + hashlib.sha256("".join(lines).encode()).hexdigest()
    assert (store / pulled.path).resolve().name == pulled.digest.replace(":", "-")


async def test_one_file_is_a_model_by_its_own_sha256(hub: Hub, store: Path, files: dict[str, bytes | Path]) -> None:
    pulled = await pull_from(hub, f"hf://{REPO}/gguf/tiny.gguf", store)
    model = as_bytes(files, "gguf/tiny.gguf")["gguf/tiny.gguf"]
    assert pulled.path.endswith("/gguf/tiny.gguf")
    assert (store / pulled.path).read_bytes() == model
    assert pulled.digest == "sha256:" + hashlib.sha256(model).hexdigest()


async def test_all_parts_of_a_split_model_come(hub: Hub, store: Path) -> None:
    parts = {f"m-{n:05}-of-00003.gguf": GGUF_HEAD + os.urandom(100) for n in (1, 2, 3)}
    hub.add("acme/split", dict(parts), lfs=tuple(parts))
    pulled = await pull_from(hub, "hf://acme/split/m-00001-of-00003.gguf", store)
    assert content((store / pulled.path).parent) == parts


async def test_two_revisions_share_what_they_have_in_common(
    hub: Hub, store: Path, files: dict[str, bytes | Path]
) -> None:
    first = await pull_from(hub, f"hf://{REPO}", store)
    before = hub.bytes_served
    changed = {**files, "config.json": b'{"model_type": "other"}'}
    commit = hub.add(REPO, changed, lfs=LFS, branch="next")
    second = await pull_from(hub, f"hf://{REPO}@next", store)
    by_commit = await pull_from(hub, f"hf://{REPO}@{commit}", store)
    assert hub.bytes_served - before == len(b'{"model_type": "other"}')
    assert second.digest == by_commit.digest != first.digest
    assert content(store / second.path) == as_bytes(changed, *SERVED)
    assert content(store / first.path) == as_bytes(files, *SERVED)


async def test_an_update_switches_the_link_at_once(hub: Hub, store: Path, files: dict[str, bytes | Path]) -> None:
    first = await pull_from(hub, f"hf://{REPO}", store)
    old = content(store / first.path)
    hub.add(REPO, {**files, "config.json": b"{}"}, lfs=LFS)
    kept = await pull_from(hub, f"hf://{REPO}", store, refresh=Refresh.NEVER)
    assert (kept.digest, kept.fetched_bytes, content(store / first.path)) == (first.digest, 0, old)
    second = await pull_from(hub, f"hf://{REPO}", store)
    assert second.path == first.path
    assert content(store / second.path)["config.json"] == b"{}"


async def test_a_pin_needs_no_hub_once_it_is_there_and_is_held(hub: Hub, store: Path) -> None:
    digest = (await pull_from(hub, f"hf://{REPO}", store)).digest
    pinned = await pull_from(hub, f"hf://{REPO}", store, digest=digest)
    asked = len(hub.served)
    assert await pull_from(hub, f"hf://{REPO}", store, digest=digest) == pinned
    assert len(hub.served) == asked
    with pytest.raises(PullError) as caught:
        await pull_from(hub, f"hf://{REPO}", store, digest="sha256:" + "0" * 64)
    assert caught.value.reason is PullReason.DIGEST_MISMATCH


async def test_the_token_goes_to_the_hub_and_nowhere_else(hub: Hub, store: Path) -> None:
    hub.tokens["hf_reader"] = "all"
    hub.repos[REPO].gated = True
    await pull_from(hub, f"hf://{REPO}", store, credentials=Credentials(token="hf_reader"))
    at_cdn = [entry for entry in hub.served if entry.path.startswith("/cdn/")]
    assert at_cdn
    assert all(not entry.authorization and entry.host.startswith("localhost") for entry in at_cdn)
    assert any(entry.authorization == "Bearer hf_reader" for entry in hub.served)


@pytest.mark.parametrize(
    ("token", "words"),
    [
        ("", ("gated", "licence with an account", "secretRef")),
        ("hf_other", ("gated", "licence with the token's account")),
    ],
)
async def test_a_gated_repository_says_what_to_do(hub: Hub, store: Path, token: str, words: tuple[str, ...]) -> None:
    hub.tokens["hf_other"] = "public"
    hub.repos[REPO].gated = True
    error = await failing(hub, f"hf://{REPO}", store, PullReason.ACCESS_DENIED, credentials=Credentials(token=token))
    assert all(word in error.message for word in (*words, f"{hub.endpoint}/{REPO}"))


async def test_private_unknown_and_bad_token(hub: Hub, store: Path) -> None:
    hub.repos[REPO].private = True
    hub.tokens["hf_other"] = "public"
    denied = await failing(hub, f"hf://{REPO}", store, PullReason.ACCESS_DENIED)
    assert "secretRef" in denied.message
    other = Credentials(token="hf_other")
    await failing(hub, f"hf://{REPO}", store, PullReason.UNKNOWN_MODEL, credentials=other)
    wrong = await failing(
        hub, f"hf://{REPO}", store, PullReason.ACCESS_DENIED, credentials=Credentials(token="hf_wrong")
    )
    assert "hf_wrong" not in wrong.message


@pytest.mark.parametrize(
    ("source", "reason", "word"),
    [
        (f"hf://{REPO}@gone", PullReason.UNKNOWN_MODEL, "no revision gone"),
        (f"hf://{REPO}/gone.gguf", PullReason.UNKNOWN_MODEL, "no file gone.gguf"),
        ("hf://acme/ggufs", PullReason.NOT_A_MODEL, "hf://acme/ggufs/a.gguf"),
        ("hf://acme/text", PullReason.NOT_A_MODEL, "no weights"),
        ("hf://acme/page/model.gguf", PullReason.NOT_A_MODEL, "does not begin as a GGUF"),
        ("hf://acme/short", PullReason.NOT_A_MODEL, "10 bytes of weights where its header says 20"),
    ],
)
async def test_what_is_not_there_or_no_model(hub: Hub, store: Path, source: str, reason: PullReason, word: str) -> None:
    hub.add("acme/ggufs", {"a.gguf": b"GGUF", "b.gguf": b"GGUF"})
    hub.add("acme/text", {"README.md": b"words"})
    hub.add("acme/page", {"model.gguf": b"<html>a page</html>"})
    hub.add("acme/short", {"config.json": b"{}", "model.safetensors": safetensors(20)[:-10]})
    error = await failing(hub, source, store, reason)
    assert word in error.message


async def failing(hub: Hub, source: str, store: Path, reason: PullReason, **changes: Any) -> PullError:
    with pytest.raises(PullError) as caught:
        await pull_from(hub, source, store, **changes)
    assert caught.value.reason is reason, caught.value.message
    assert caught.value.message.endswith((".", ". "))
    assert not list((store / "pointsman/models").iterdir())
    return caught.value


async def test_errors_and_cuts_are_sat_out(hub: Hub, store: Path, files: dict[str, bytes | Path]) -> None:
    hub.faults.fail_gets = 2
    hub.faults.cut_gets, hub.faults.cut_after = 2, MIB
    pulled = await pull_from(hub, f"hf://{REPO}", store)
    assert content(store / pulled.path) == as_bytes(files, *SERVED)


async def test_a_hub_that_stays_broken_is_given_up(hub: Hub, store: Path) -> None:
    hub.faults.api_status = 503
    assert "503" in (await failing(hub, f"hf://{REPO}", store, PullReason.REGISTRY_ERROR)).message
    endpoint = hub.endpoint
    hub.faults.api_status = 0
    gone = SecretFolder(None, {"HF_ENDPOINT": endpoint.replace("127.0.0.1", "127.9.9.9")})
    error = await failing(hub, f"hf://{REPO}", store, PullReason.REGISTRY_UNREACHABLE, secret=gone)
    assert "refused" in error.message


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
async def test_damaged_bytes_are_never_published(
    hub: Hub, store: Path, files: dict[str, bytes | Path], name: str
) -> None:
    """By sha256 in LFS, by git's sha1 beside it."""
    only = {k: v for k, v in files.items() if k in (name, "model.safetensors")}
    hub.add("acme/one", only, lfs=("model.safetensors",) if name == "model.safetensors" else ())
    hub.faults.corrupt = True
    error = await failing(hub, "hf://acme/one", store, PullReason.CORRUPT_BLOB)
    assert name in error.message or "model.safetensors" in error.message
    assert not list((store / "pointsman/blobs").iterdir())


async def test_a_damaged_store_is_healed_when_asked(hub: Hub, store: Path, files: dict[str, bytes | Path]) -> None:
    pulled = await pull_from(hub, f"hf://{REPO}", store)
    weights = (store / pulled.path / "model.safetensors").resolve()
    status = weights.stat()
    with weights.open("r+b") as file:  # a flipped bit that changes neither size nor time
        file.seek(MIB)
        byte = file.read(1)[0]
        file.seek(MIB)
        file.write(bytes([byte ^ 1]))
    os.utime(weights, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (await pull_from(hub, f"hf://{REPO}", store)).fetched_bytes == 0
    healed = await pull_from(hub, f"hf://{REPO}", store, verify=True)
    assert 0 < healed.fetched_bytes < healed.total_bytes
    assert content(store / pulled.path) == as_bytes(files, *SERVED)


async def test_too_little_room_is_said_before_anything_is_fetched(hub: Hub, small_volume: Path) -> None:
    with pytest.raises(PullError) as caught:
        await pull_from(hub, f"hf://{REPO}", small_volume)
    assert caught.value.reason is PullReason.DISK_FULL
    assert hub.bytes_served == 0


def test_the_command_takes_a_mounted_secret_and_says_the_path(hub: Hub, store: Path, tmp_path: Path) -> None:
    hub.tokens["hf_reader"] = "all"
    hub.repos[REPO].gated = True
    secret, log = tmp_path / "secret", tmp_path / "log"
    secret.mkdir()
    (secret / "HF_TOKEN").write_text("hf_reader\n")
    (secret / "HF_ENDPOINT").write_text(hub.endpoint)
    arguments = [f"hf://{REPO}", "--store", str(store), "--termination-log", str(log)]
    result = CliRunner().invoke(command, [*arguments, "--credentials", str(secret)])
    assert result.exit_code == 0, result.output
    outcome = json.loads(log.read_bytes())
    assert (store / outcome["path"] / "config.json").is_file()
    assert outcome["digest"].startswith("sha256:")
    (secret / "HF_TOKEN").write_text("hf_other")
    assert CliRunner().invoke(command, [*arguments, "--credentials", str(secret)]).exit_code == 24
    assert CliRunner().invoke(command, [*arguments, "--credentials", str(secret / "none")]).exit_code == 21
