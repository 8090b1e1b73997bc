"""`python -m tests.agreement --requests 10000 [--seed N]`: ends with 1 when there was any disagreement."""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
from pathlib import Path

import uvloop
from tests.agreement.run import Outcome, run
from tests.faults import report


def text(outcome: Outcome) -> str:
    return "\n".join(
        [
            f"{outcome.requests} requests explained and sent in {outcome.seconds:.0f} s",
            f"  judged: {dict(outcome.judged)}; {outcome.changed} met a change of state in between",
            f"  first candidates by place: {dict(outcome.places)}",
            f"  left out for: {dict(outcome.barred.most_common())}",
            f"  by operation: {dict(outcome.operations)}",
            f"  by strategy: {dict(outcome.strategies)}",
            f"  disagreements: {len(outcome.findings)}",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.agreement")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--write", action="store_true", help="write the figures to the documentation")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with (
        tempfile.TemporaryDirectory(prefix="pointsman-agreement-") as folder,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        outcome = runner.run(run(Path(folder), options.seed, options.requests))
    print(text(outcome))
    for finding in outcome.findings[:40]:
        print(f"- {finding}")
    if options.write:
        report.write_agreement(outcome, options.seed)
    sys.exit(1 if outcome.findings else 0)


if __name__ == "__main__":
    main()
