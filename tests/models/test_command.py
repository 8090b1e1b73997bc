"""`pointsman pull` as somebody types it: each option acts, each end has its exit code."""

import io
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.models.helpers import assert_whole
from tests.support.registry import TinyRegistry

from pointsman.cli.pull import pull
from pointsman.cli.pull_display import JsonLines, make_display
from pointsman.domain.report import PullProgress


def run(registry: TinyRegistry, store: Path, *options: str, scheme: str = "ollama+http", **env: str) -> Result:
    source = f"{scheme}://{registry.host}/demo/noise:1"
    return CliRunner().invoke(pull, [source, "--store", str(store), "--part-size", "4Mi", *options], env=env)


def lines(result: Result) -> list[dict[str, object]]:
    return [json.loads(line) for line in result.output.splitlines()]


def test_it_pulls_and_logs_json_lines(registry: TinyRegistry, tmp_path: Path) -> None:
    result = run(registry, tmp_path)
    assert result.exit_code == 0, result.output
    assert_whole(tmp_path, registry.root)
    states = [line["state"] for line in lines(result)]
    assert (states[0], states[-1]) == ("Pulling", "Pulled")
    assert lines(result)[-1]["completed_bytes"] == lines(result)[-1]["total_bytes"] == registry.bytes_served


@pytest.mark.parametrize("how", [{"options": ("--insecure",)}, {"env": {"POINTSMAN_PULL_INSECURE": "1"}}])
def test_insecure_asks_for_plain_http(
    registry: TinyRegistry, tmp_path: Path, how: dict[str, tuple[str, ...] | dict[str, str]]
) -> None:
    options, env = how.get("options", ()), how.get("env", {})
    assert run(registry, tmp_path, *options, scheme="ollama", **dict(env)).exit_code == 0


def test_parts_at_once_are_bounded(registry: TinyRegistry, tmp_path: Path) -> None:
    registry.rate = 20_000_000  # slow enough that parts overlap where they may
    assert run(registry, tmp_path / "a", "--parallel", "1").exit_code == 0
    assert registry.peak == 1
    assert run(registry, tmp_path / "b", "--parallel", "3").exit_code == 0
    assert 1 < registry.peak <= 3


def test_a_pin_is_held(registry: TinyRegistry, tmp_path: Path) -> None:
    assert run(registry, tmp_path, "--digest", "sha256:" + "0" * 64).exit_code == 25
    assert run(registry, tmp_path, "--digest", "latest").exit_code == 20
    digest = str(lines(run(registry, tmp_path))[-1]["digest"])
    assert run(registry, tmp_path, "--digest", digest).exit_code == 0


def test_credentials_come_from_files(registry: TinyRegistry, tmp_path: Path) -> None:
    registry.faults.auth, registry.faults.username, registry.faults.password = "bearer", "me", "hunter2"
    registry.faults.static_token = "ready-made"
    password, token = tmp_path / "password", tmp_path / "token"
    password.write_text("hunter2\n")
    token.write_text("ready-made\n")
    denied = run(registry, tmp_path / "s")
    assert denied.exit_code == 24
    assert lines(denied)[-1]["reason"] == "AccessDenied"
    assert run(registry, tmp_path / "a", "--username", "me", "--password-file", str(password)).exit_code == 0
    named = run(registry, tmp_path / "b", "--password-file", str(password), POINTSMAN_PULL_USERNAME="me")
    assert named.exit_code == 0
    assert run(registry, tmp_path / "c", "--token-file", str(token)).exit_code == 0
    assert "hunter2" not in named.output


@pytest.mark.parametrize(
    "options",
    [("--username", "me"), ("--token-file", "/missing"), ("--token-file", "/missing", "--username", "me")],
)
def test_unusable_credentials_stop_at_once(registry: TinyRegistry, tmp_path: Path, options: tuple[str, ...]) -> None:
    result = run(registry, tmp_path, *options)
    assert result.exit_code == 21
    assert lines(result)[-1]["reason"] == "BadConfiguration"


@pytest.mark.parametrize("size", ["1", "4M", "lots", "-1"])
def test_a_part_size_that_makes_no_sense_is_a_usage_error(registry: TinyRegistry, tmp_path: Path, size: str) -> None:
    assert run(registry, tmp_path, "--part-size", size).exit_code == 2


def test_a_terminal_gets_a_bar_and_the_reason_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    with make_display("ollama://a", out) as show:
        show(PullProgress(state="Pulling", total_bytes=1_000_000, completed_bytes=500_000))
        show(PullProgress(state="Failed", total_bytes=1_000_000, reason="DiskFull", message="Make it larger."))
    assert "ollama://a" in out.getvalue()
    assert "DiskFull: Make it larger." in capsys.readouterr().err


def test_mere_figures_are_logged_every_few_seconds() -> None:
    out, now = io.StringIO(), 0.0
    show = JsonLines("ollama://a", out, now=lambda: now)
    for now in range(20):  # noqa: B007  -- the clock reads it
        show(PullProgress(state="Pulling", completed_bytes=1))
    assert len(out.getvalue().splitlines()) == 4
