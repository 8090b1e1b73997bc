"""`python -m tests.bursts [--minutes 30] [--seed N] [--write]`: the whole trace, and what came of it.

Ends with 1 when somebody was lost, or the number of pods flapped.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys

from tests.bursts import leader, report, trace
from tests.bursts.judge import findings
from tests.bursts.run import Outcome, play
from tests.cluster import providers
from tests.demo import stage
from tests.demo.stage import Stage
from tests.e2e.waiting import fresh

SEED = 2


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bursts")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--write", action="store_true", help="write the figures to the documentation")
    options = parser.parse_args()
    name = os.environ.get("POINTSMAN_CLUSTER_NAME", "bursts")
    was_up = providers.find(name, "full") is not None
    cluster = providers.up(name, "full")
    try:
        cluster.load_image(stage.POINTSMAN_IMAGE)
        stage.install(cluster)
        outcome = asyncio.run(run(Stage(cluster, "", fresh("bursts")), trace.make(options.seed, 60 * options.minutes)))
    finally:
        if not was_up and os.environ.get("POINTSMAN_KEEP_CLUSTER") != "1":
            providers.down(name)
    print(report.text(outcome))
    if options.write:
        report.write(outcome)
    return 1 if findings(outcome) else 0


async def run(scene: Stage, what: trace.Trace) -> Outcome:
    """The trace in a namespace of its own, with two operators, whose leader is killed twice."""
    await leader.operators(scene, 2)
    scene.make_namespace()
    try:
        return await play(scene, what, kills(what))
    finally:
        scene.remove_namespace()
        await leader.operators(scene, 1)


def kills(what: trace.Trace) -> list[float]:
    """In the middle of the second burst, and a second before a request comes that finds no pod."""
    bursts = [p for p in what.phases if p.kind == "burst"]
    lulls = [p for p in what.phases if p.kind == "lull"]
    out = [(bursts[1].begins + bursts[1].ends) / 2] if len(bursts) > 1 else []
    for lull in lulls[-2:-1]:  # none follows the last one
        out.append(next(r.at for r in what.requests if r.at >= lull.ends) - 1)
    return out


if __name__ == "__main__":
    sys.exit(main())
