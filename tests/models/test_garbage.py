"""`pointsman prune` and `pointsman rm`: what goes is what no model needs, and nothing that is not ours."""

import os
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result
from tests.models.helpers import LFS, REPO, as_bytes, content, pull_from, pull_noise, start_pull, until
from tests.support.hub import Hub
from tests.support.registry import TinyRegistry

from pointsman.cli.prune import prune
from pointsman.cli.rm import rm
from pointsman.engines.base import POD_SECURITY

HF = f"hf://{REPO}"


def run(command: object, *arguments: object) -> Result:
    return CliRunner().invoke(command, [str(a) for a in arguments])  # type: ignore[arg-type]


def files(store: Path) -> set[str]:
    """Everything in a store but folders and the store's lock."""
    found = (p for p in store.rglob("*") if p.is_symlink() or p.is_file())
    return {p.relative_to(store).as_posix() for p in found if p.name != "lock"}


async def test_old_revisions_go_and_shared_blobs_stay(hub: Hub, store: Path) -> None:
    first = await pull_from(hub, HF, store)
    old = (store / first.path / "config.json").resolve()
    given = hub.repos[REPO].commits[hub.repos[REPO].branches["main"]]
    hub.add(REPO, {**given, "config.json": b'{"new": 1}'}, lfs=LFS)
    second = await pull_from(hub, HF, store)
    served = content(store / second.path)
    dry = run(prune, "--store", store, "--grace", 0)
    assert (dry.exit_code, old.exists()) == (0, True)
    assert "--yes does it" in dry.output
    done = run(prune, "--store", store, "--grace", 0, "--yes")
    assert done.exit_code == 0, done.output
    assert not old.exists()
    assert content(store / second.path) == served
    assert len(list((store / "pointsman/content").iterdir())) == 1
    assert "Nothing to remove." in run(prune, "--store", store, "--grace", 0, "--yes").output


async def test_what_is_not_kept_goes_whatever_layout_it_has(hub: Hub, registry: TinyRegistry, store: Path) -> None:
    pulled = await pull_noise(registry, store)
    pinned = await pull_from(hub, HF, store, digest=(await pull_from(hub, HF, store)).digest)
    file = await pull_from(hub, f"{HF}/gguf/tiny.gguf", store)
    noise = f"ollama+http://{registry.host}/demo/noise:1"
    before = files(store)
    kept = ("--keep", f"{HF}@{pinned.digest}", "--keep", noise)
    said = run(prune, "--store", store, *kept)
    assert f"would go: {HF} " in said.output
    assert f"would go: {HF}/gguf/tiny.gguf" in said.output
    assert noise not in said.output
    assert files(store) == before
    assert run(prune, "--store", store, *kept, "--yes").exit_code == 0
    assert not (store / file.path).exists()
    assert (store / pinned.path / "model.safetensors").is_file()
    assert (store / "blobs").is_dir()
    assert (await pull_noise(registry, store, digest=pulled.digest)).fetched_bytes == 0
    assert run(prune, "--store", store, "--keep", "hf://acme/other", "--yes").exit_code == 0
    left = {path for path in files(store) if not path.startswith(".pointsman/folders/blobs/id-")}
    assert left == set(), left


async def test_what_others_brought_or_need_stays(registry: TinyRegistry, store: Path) -> None:
    """A blob that Ollama itself pulled; a manifest that somebody wrote for a blob that we brought."""
    pulled = await pull_noise(registry, store)
    (foreign,) = (store / "manifests" / registry.host / "demo" / "noise").iterdir()
    copy = store / "manifests" / "registry.ollama.ai" / "me" / "mine" / "latest"
    copy.parent.mkdir(parents=True)
    copy.write_bytes(foreign.read_bytes())
    mine = store / "blobs" / ("sha256-" + "0" * 64)
    mine.write_bytes(b"of somebody else")
    os.utime(mine, (0, 0))
    assert run(rm, f"ollama+http://{registry.host}/demo/noise:1", "--store", store, "--yes").exit_code == 0
    assert not foreign.exists()
    assert copy.exists()
    assert mine.exists()
    assert sum(path.stat().st_size for path in (store / "blobs").iterdir()) > pulled.total_bytes


async def test_one_model_goes_and_can_be_pulled_again(hub: Hub, store: Path) -> None:
    whole = await pull_from(hub, HF, store)
    file = await pull_from(hub, f"{HF}/gguf/tiny.gguf", store)
    said = run(rm, HF, "--store", store)
    assert "would go" in said.output
    assert (store / whole.path).exists()
    assert run(rm, HF, "--store", store, "--yes").exit_code == 0
    assert not (store / whole.path).exists()
    assert (store / file.path).is_file()
    missing = run(rm, HF, "--store", store, "--yes")
    assert missing.exit_code == 1
    assert f"{HF}/gguf/tiny.gguf" in missing.output
    assert (await pull_from(hub, HF, store)).digest == whole.digest


async def test_a_store_is_not_cleaned_under_a_pull(hub: Hub, store: Path) -> None:
    hub.pace.rate = 1 << 20
    process = await start_pull(HF, store, HF_ENDPOINT=hub.endpoint)
    await until(lambda: hub.bytes_served > 1 << 19)
    said = run(prune, "--store", store, "--grace", 0, "--yes")
    assert said.exit_code == 35
    assert "under way" in said.output
    process.kill()
    await process.wait()
    half = files(store)
    assert run(prune, "--store", store, "--yes").exit_code == 0
    assert files(store) == half, "a pull can still go on"
    assert run(prune, "--store", store, "--grace", 0, "--yes").exit_code == 0
    assert not list((store / ".pointsman/folders/staging").glob("*.part"))
    hub.pace.rate = 0
    pulled = await pull_from(hub, HF, store)
    given = hub.repos[REPO].commits[hub.repos[REPO].branches["main"]]
    assert content(store / pulled.path) == as_bytes(dict(given), *content(store / pulled.path))


@pytest.mark.parametrize("command", [prune, rm])
def test_a_store_that_is_not_there_is_a_usage_error(command: object, tmp_path: Path) -> None:
    assert run(command, *([HF] if command is rm else []), "--store", tmp_path / "none").exit_code == 2
    assert run(prune, "--store", tmp_path, "--keep", "nonsense").exit_code == 2


def test_the_job_of_the_documentation_runs_the_command(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "sources.md").read_text()
    (text,) = [part.partition("```")[0] for part in page.split("```yaml")[1:] if "kind: Job" in part]
    pod = yaml.safe_load(text)["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsUser"] == POD_SECURITY["runAsUser"]
    (container,) = pod["containers"]
    (mount,) = container["volumeMounts"]
    command, *arguments = [str(tmp_path) if a == mount["mountPath"] else a for a in container["args"]]
    assert command == "prune"
    result = run(prune, *arguments)
    assert (result.exit_code, result.output) == (0, "Nothing to remove.\n")
