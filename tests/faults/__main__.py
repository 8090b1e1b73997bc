"""`python -m tests.faults --requests 100000 [--reload] [--seed N] [--write]`: the whole run, and what came of it.

Ends with 1 when the model found anything.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
from pathlib import Path

from tests.faults import report
from tests.faults.run import run


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults")
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=64, help="requests in flight")
    parser.add_argument("--rate", type=float, default=600, help="requests a second at most")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--reload", action="store_true", help="change the gateway's configuration throughout")
    parser.add_argument("--write", action="store_true", help="write the figures to the documentation")
    parser.add_argument("--keep", action="store_true", help="keep what everybody wrote down")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="pointsman-faults-"))
    print(f"seed {options.seed}, {options.requests} requests; the records are in {folder}", flush=True)
    outcome = asyncio.run(
        run(folder, options.seed, options.requests, workers=options.workers, rate=options.rate, reload=options.reload)
    )
    print(report.text(outcome))
    for finding in outcome.findings[:50]:
        print(f"- {finding}")
    if options.write:
        report.write(outcome, options.seed, options.workers, reload=options.reload)
    if outcome.findings or options.keep:
        print(f"{len(outcome.findings)} findings; the records are in {folder}")
    else:
        shutil.rmtree(folder)
    sys.exit(1 if outcome.findings else 0)


if __name__ == "__main__":
    main()
