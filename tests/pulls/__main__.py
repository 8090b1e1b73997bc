"""`python -m tests.pulls [--size BYTES] [--kills N] [--write]`: pulls at full size, and what came of them.

Ends with 1 when a promise was not kept: a model that is not byte-identical, a kill that cost 64 MiB or more, bytes
fetched twice for two backends, or a pull slower than Ollama's own.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import shutil
import sys
import tempfile
from pathlib import Path

from tests.models.helpers import GGUF_HEAD
from tests.models.places import KINDS
from tests.pulls import report
from tests.pulls.run import killed, shared, throughput


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.pulls")
    parser.add_argument("--size", type=int, default=2_000_000_000, help="bytes of the model")
    parser.add_argument("--kills", type=int, default=10, help="SIGKILLs for each source")
    parser.add_argument("--rounds", type=int, default=5, help="pulls by each side for the throughput")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--kinds", nargs="*", default=KINDS, choices=KINDS)
    parser.add_argument("--write", action="store_true", help="write the figures to the documentation")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="pointsman-pulls-"))
    try:
        outcome = asyncio.run(run(folder, options))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(report.text(outcome))
    if options.write:
        report.write(outcome)
    sys.exit(0 if outcome.kept else 1)


async def run(folder: Path, options: argparse.Namespace) -> report.Outcome:
    """Everything, one after the other: two cores are soon busy."""
    model = folder / "model" / "model.gguf"
    model.parent.mkdir()
    with model.open("wb") as file:
        file.write(GGUF_HEAD)
        left = options.size - len(GGUF_HEAD)
        while left:
            left -= file.write(os.urandom(min(left, 16 << 20)))
    outcome = report.Outcome(options.size, options.kills, options.seed)
    # First: what the kills write keeps a disk busy long after them, and only one of the two waits for it.
    outcome.throughput = await throughput(model, folder, options.rounds)
    print("throughput", outcome.throughput, flush=True)
    for kind in options.kinds:
        chance = random.Random(f"{options.seed} {kind}")
        outcome.killed[kind] = await killed(kind, model, folder, options.kills, chance)
        print(kind, outcome.killed[kind], flush=True)
    outcome.shared = await shared(model, folder)
    print("two backends", outcome.shared, flush=True)
    return outcome


if __name__ == "__main__":
    main()
