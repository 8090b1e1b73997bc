"""One line an event, for machines and for people."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from pointsman.cli import logs


@pytest.fixture(autouse=True)
def untouched() -> Iterator[None]:
    root = logging.getLogger()
    before = root.level, root.handlers[:]
    yield
    root.setLevel(before[0])
    root.handlers[:] = before[1]
    logging.captureWarnings(False)


def test_json_lines_carry_fields_and_tracebacks(capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup("info", "json")
    log = logging.getLogger("pointsman.test")
    log.debug("not shown")
    log.warning("%d problems", 2, extra={"problems": ("a.yaml:1: x", "b.yaml:2: y")})
    try:
        raise ValueError("broken")
    except ValueError:
        log.exception("failed")
    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert (first["level"], first["logger"], first["message"]) == ("warning", "pointsman.test", "2 problems")
    assert first["problems"] == ["a.yaml:1: x", "b.yaml:2: y"]
    assert first["time"].endswith("+00:00")
    assert "ValueError: broken" in second["error"]


def test_text_lists_each_problem_on_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup("info", "text")
    logging.getLogger("pointsman.test").error("bad manifests", extra={"problems": ("a.yaml:1: x", "b.yaml:2: y")})
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].endswith("ERROR bad manifests")
    assert lines[1:] == ["  a.yaml:1: x", "  b.yaml:2: y"]


def test_without_a_terminal_the_form_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup()
    logging.getLogger("pointsman.test").info("hello")
    assert json.loads(capsys.readouterr().err)["message"] == "hello"
