"""Whoever leads the operators, and its sudden end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.demo.stage import ROOT, SYSTEM, Stage

LEASE_SECONDS = 40.0
"""A lease of a dead leader lasts 15 s; the next one reads the cluster first. And machines are noisy."""


async def operators(stage: Stage, number: int) -> None:
    """Sets how many there are, and waits for them."""
    await asyncio.to_thread(
        stage.cluster.helm, "upgrade", "pointsman", str(ROOT / "charts" / "pointsman"), "--namespace", SYSTEM,
        "--reuse-values", "--set", f"operator.replicas={number}", "--wait", "--timeout", "100s",
    )  # fmt: skip


async def killed(stage: Stage) -> float:
    """Kills the leader as a crash does, from outside of its pod; seconds until there is one again: itself, if it is
    started again in time, or another."""
    began, spec = time.monotonic(), await _lease(stage)
    pod = spec["holderIdentity"].partition("_")[0]
    victims = _processes(pod)
    assert victims, f"no process of {pod} on this machine"
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    killed_at = datetime.now(UTC)
    while not (spec["holderIdentity"] and datetime.fromisoformat(spec["renewTime"]) > killed_at):
        assert time.monotonic() < began + LEASE_SECONDS, f"nobody leads after {pod}"
        await asyncio.sleep(0.5)
        spec = await _lease(stage)
    return time.monotonic() - began


async def _lease(stage: Stage) -> dict[str, Any]:
    got = await asyncio.to_thread(
        stage.cluster.kubectl, "-n", SYSTEM, "get", "lease", "pointsman-operator", "-o", "json"
    )
    return dict(json.loads(got)["spec"])


def _processes(pod: str) -> list[int]:
    """Those of a pod of ours: its host name is in their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and f"HOSTNAME={pod}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found
