"""`pointsman test`: whom it asks, and what it refuses to guess."""

from __future__ import annotations

from typing import Any

import pytest
from click.testing import CliRunner

from pointsman.cli.main import main
from pointsman.cli.test import _called

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((), "name the MODEL, or a --backend"),
        (("m", "--backend", "b", "--url", "http://127.0.0.1:1/v1"), "two places"),
        (("--backend", "b", "--gateway", "http://127.0.0.1:1"), "--backend needs a cluster"),
        (("m", "--api-key-env", "NOBODY_HAS_SET_THIS"), "--api-key-env needs --url"),
        (("m", "--at-once", "2"), "--at-once needs --runs"),
    ],
)
def test_what_cannot_be_asked_is_said(args: tuple[str, ...], words: str) -> None:
    done = CliRunner().invoke(main, ["test", *args])
    assert done.exit_code == 2
    assert words in done.output


def test_a_server_that_is_not_there_is_one_line() -> None:
    done = CliRunner().invoke(main, ["test", "m", "--url", "http://127.0.0.1:1/v1"])
    assert done.exit_code == 3
    assert "no answer" in done.output
    assert len(done.output.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("source", "status", "name"),
    [
        ("ollama://tiny:1", {"digest": DIGEST}, f"pointsman/tiny:sha256-{'a' * 64}"),
        ("ollama://tiny:1", {}, "m"),
        ("hf://org/repo", {"digest": DIGEST}, "m"),
        (None, {}, "m"),
    ],
)
def test_engine_is_asked_for_the_model_by_its_own_name(source: str | None, status: Any, name: str) -> None:
    model = {"name": "m", **({"source": source} if source else {})}
    body = {"spec": {"models": [model]}, "status": {"models": [{"name": "m", **status}]}}
    assert _called(body, "m") == name
