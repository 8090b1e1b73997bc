"""Compiles the gateway's data path to C while a wheel is built, with mypyc.

A request costs about half then (docs/benchmarks.md). Only with POINTSMAN_COMPILE=1: a checkout runs from its sources,
images and releases are built with it. The same files run uncompiled; what is compiled stands in COMPILED below.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

COMPILED = (
    "dialects/alike.py",
    "dialects/features.py",
    "dialects/known_body.py",
    "dialects/openai.py",
    "dialects/operation.py",
    "dialects/request.py",
    "dialects/openai_answer.py",
    "dialects/sse.py",
    "domain/attempts.py",
    "domain/book.py",
    "domain/candidates.py",
    "domain/failure.py",
    "domain/features.py",
    "domain/flags.py",
    "domain/health.py",
    "domain/pace.py",
    "domain/patience.py",
    "domain/ramp.py",
    "domain/rules.py",
    "domain/score.py",
    "domain/strategies/auto.py",
    "domain/strategies/least_in_flight.py",
    "domain/strategies/lowest_cost.py",
    "domain/strategies/lowest_latency.py",
    "domain/strategies/prefix_affinity.py",
    "domain/strategies/strategy.py",
    "domain/strategies/weighted.py",
    "domain/table.py",
    "domain/verdict.py",
    "gateway/front/doors.py",
    "gateway/front/request_reader.py",
    "gateway/front/server.py",
    "gateway/insight/access.py",
    "gateway/insight/genai.py",
    "gateway/insight/histogram.py",
    "gateway/insight/metrics.py",
    "gateway/insight/record.py",
    "gateway/limits.py",
    "gateway/relay/answers.py",
    "gateway/relay/attempt.py",
    "gateway/relay/client.py",
    "gateway/relay/datapath.py",
    "gateway/relay/exchange.py",
    "gateway/relay/giving_up.py",
    "gateway/relay/learnt.py",
    "gateway/relay/lookup.py",
    "gateway/relay/replies.py",
    "gateway/relay/timing.py",
    "gateway/relay/wheel.py",
    "gateway/upstream/answer_reader.py",
    "gateway/upstream/connection.py",
    "gateway/upstream/known_head.py",
    "gateway/upstream/pool.py",
    "gateway/upstream/roster.py",
)


class CompileHook(BuildHookInterface[Any]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Adds the compiled modules to the wheel, beside their sources. Raises `CalledProcessError`."""
        if self.target_name != "wheel" or version == "editable" or os.environ.get("POINTSMAN_COMPILE") != "1":
            return
        root = Path(self.root)
        self._work = Path(tempfile.mkdtemp(prefix="pointsman-compile-"))
        shutil.copytree(root / "operator" / "pointsman", self._work / "pointsman", ignore=_ignore)
        subprocess.run(
            [sys.executable, "-m", "mypyc", "--config-file", str(root / "pyproject.toml"),
             *(f"pointsman/{path}" for path in COMPILED)],
            cwd=self._work, check=True, stdout=sys.stderr,
            env={**os.environ, "MYPYC_OPT_LEVEL": "3", "MYPYC_DEBUG_LEVEL": "0", "MYPYPATH": str(self._work)},
        )  # fmt: skip
        for module in self._work.rglob("*.so"):
            if "build" not in module.relative_to(self._work).parts:
                build_data["force_include"][str(module)] = str(module.relative_to(self._work))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if hasattr(self, "_work"):
            shutil.rmtree(self._work)


def _ignore(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if name.endswith((".so", ".pyc")) or name == "__pycache__"]
