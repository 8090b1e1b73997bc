"""`make keda`: a real KEDA in the test cluster, and with `--write` its last run as a page of the docs.

Ends with 1 when a request failed, or somebody else than the operator wrote the Deployment's number.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from pathlib import Path

from tests.cluster import providers
from tests.cluster.programs.recipes import KEDA_VERSION
from tests.demo import stage
from tests.demo.stage import Stage
from tests.e2e.waiting import fresh
from tests.keda.install import install
from tests.keda.run import Outcome, play

PAGE = Path(__file__).parents[2] / "docs" / "keda-run.md"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.keda", description="A real KEDA in a cluster.")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    options = parser.parse_args()
    name = os.environ.get("POINTSMAN_CLUSTER_NAME", "keda")
    was_up = providers.find(name, "full") is not None
    cluster = providers.up(name, "full")
    try:
        cluster.load_image(stage.POINTSMAN_IMAGE)
        stage.install(cluster)
        install(cluster)
        scene = Stage(cluster, "", fresh("keda"))
        scene.make_namespace()
        outcome = asyncio.run(play(scene))
        scene.remove_namespace()
    finally:
        if not was_up and os.environ.get("POINTSMAN_KEEP_CLUSTER") != "1":
            providers.down(name)
    print(page(outcome))
    if options.write:
        PAGE.write_text(page(outcome))
    return 1 if outcome.findings() else 0


def page(outcome: Outcome) -> str:
    """The page of a run."""
    failed = sum(bool(s.error) for s in outcome.seen)
    found = "".join(f"- **{one}**\n" for one in outcome.findings())
    steps = "\n".join(f"| {what} | {seconds:.0f} |" for what, seconds in outcome.steps)
    changes = ", ".join(f"{a} → {b}" for a, b in outcome.changes)
    machine = f"{os.cpu_count()} cores, load {os.getloadavg()[1]:.0f}"
    return f"""<!-- Written by `make keda`. Do not edit. -->
# The last run with a real KEDA

{time.strftime("%d %B %Y")}, {machine}: KEDA {KEDA_VERSION}, its operator and its metrics server built from
its Go module and installed from its own manifests, with the ScaledObject of
[Scaling](how-to/scaling.md#hpa-and-keda); real gateways, and pods of an engine that costs nothing.

| what | seconds until the Deployment had that number |
| --- | ---: |
{steps}

The Deployment's number: {changes}; written by {", ".join(sorted(outcome.writers))} alone.
{len(outcome.seen)} requests, {failed} failed; the one that found no pod had its first word
after {outcome.first_word:.0f} s.
{found}"""


if __name__ == "__main__":
    sys.exit(main())
