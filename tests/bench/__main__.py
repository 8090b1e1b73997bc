"""`python -m tests.bench`: what a request costs through the gateway, beside its peers, in one run.

The gateway under test is pinned to core 0 with one worker; the backends and the client share core 1. What is measured
stands in a file each: `cost` (CPU, latency), `idle` (streams that wait), `soak` (leaks), `failover`.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from tests.bench import backends, cost, failover, idle, mock, soak
from tests.bench.load import LONG_BYTES, Load
from tests.bench.peers import BARE, OURS, PLAIN, chosen, compiled_environment
from tests.bench.process import raise_descriptors
from tests.bench.report import Run, write

PARTS = ("json", "stream", "long", "idle", "soak", "failover")
CONNECTIONS = (1, 32, 256, 1024)
PACE = 1500
"""Requests per second of the latency table with more than one connection: below what the slowest router can do."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peers", nargs="*", help="only gateways whose name holds one of these")
    parser.add_argument("--only", action="append", choices=PARTS, help="only this part; may be given again")
    parser.add_argument("--rounds", type=int, default=3, help="of JSON and of streams")
    parser.add_argument("--seconds", type=float, default=2.5, help="of load in a round")
    parser.add_argument("--streams", type=int, default=10_000, help="idle ones at once")
    parser.add_argument("--soak", type=float, default=30, metavar="MINUTES")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md")
    args = parser.parse_args()
    if args.write and (args.only or args.peers):
        parser.error("--write writes the whole page: it needs every part and every gateway")
    parts = args.only or PARTS
    began = time.monotonic()
    most = raise_descriptors()
    run = Run(args.rounds, args.seconds)
    peers = chosen(args.peers)
    quick = [p for p in peers if not p.slow]
    if not args.peers or any(OURS in p.name for p in peers):
        compiled_environment()  # once, before anything is measured
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        if "json" in parts:
            loads = tuple(Load(c, 2.0, per_second=PACE if c > 1 else None) for c in CONNECTIONS)
            plan = cost.Plan("json", Load(32, args.seconds), args.rounds, latencies=loads)
            with backends.nginx(scratch) as port:
                run.json = cost.compare(plan, peers, port, scratch)
        if "stream" in parts:
            plan = cost.Plan("stream", Load(16, args.seconds, stream=True), args.rounds, unit=mock.EVENTS)
            with backends.mock("stream", scratch) as port:
                run.stream = cost.compare(plan, peers, port, scratch)
        if "long" in parts:
            plan = cost.Plan("1 MB", Load(8, args.seconds, size=LONG_BYTES), 1)
            with backends.mock("json", scratch) as port:
                run.long = cost.compare(plan, quick, port, scratch)
        if "idle" in parts:
            others = [p for p in quick if p.name not in (BARE, PLAIN)]
            run.idle = idle.compare(others, idle.at_most(args.streams, most), scratch)
        if "soak" in parts:
            run.soak = soak.soak(args.soak * 60, scratch)
            print(run.soak, flush=True)
        if "failover" in parts:
            run.failover = failover.measured()
            print(run.failover, flush=True)
    print(f"{time.monotonic() - began:.0f} s")
    if args.write:
        write(run)
    if run.json:
        for name, f in run.json.found.items():
            if f.cpu_us:
                print(f"{name:24} {min(f.cpu_us):8.1f} µs/request")
    if run.soak and not run.soak.clean:
        raise SystemExit(f"{OURS} leaks: {run.soak}")


if __name__ == "__main__":
    main()
