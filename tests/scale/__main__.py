"""`python -m tests.scale [--backends 1000] [--routes 1000] [--outage 300] [--write]`: the whole run, and its figures.

Ends with 1 when something went wrong that no slow machine excuses.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from pathlib import Path

from tests.cluster import providers
from tests.e2e.waiting import fresh
from tests.scale import report
from tests.scale.run import Lengths, run
from tests.scale.world import Size


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.scale")
    parser.add_argument("--backends", type=int, default=1000)
    parser.add_argument("--routes", type=int, default=1000)
    parser.add_argument("--outage", type=float, default=300, help="seconds without the API server")
    parser.add_argument("--write", action="store_true", help="write the figures to the documentation")
    options = parser.parse_args()
    name = os.environ.get("POINTSMAN_CLUSTER_NAME", "scale")
    was_up = providers.find(name, "control-plane") is not None
    cluster = providers.up(name, "control-plane")
    try:
        with tempfile.TemporaryDirectory(prefix="pointsman-scale-") as folder:
            size, lengths = Size(options.backends, options.routes), Lengths(outage=options.outage)
            outcome = asyncio.run(run(cluster, size, lengths, Path(folder), fresh("scale")))
    finally:
        if not was_up and os.environ.get("POINTSMAN_KEEP_CLUSTER") != "1":
            providers.down(name)
    print(report.text(outcome))
    if options.write:
        report.write(outcome)
    return 1 if report.wrong(outcome) else 0


if __name__ == "__main__":
    sys.exit(main())
