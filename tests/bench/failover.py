"""How much longer a request takes whose first backend is broken: beside one whose first backend is the good one.

Client, gateway and backends share one event loop here, so these times are rather too long than too short.

    python -m tests.bench.failover
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from statistics import median, quantiles

import uvloop
from tests.bench.peers import compiled_environment
from tests.cluster.cache import REPOSITORY
from tests.support.raw_client import RawClient, chat_body, chat_request, connected
from tests.support.running_gateway import Running, external, gateway, route, table
from tests.support.upstream import Upstream, says

from pointsman.simulator.behaviour import Behaviour, answers
from pointsman.simulator.connection import Connection, Request
from pointsman.simulator.openai_bytes import error

REQUESTS = 300
SILENT_REQUESTS = 15
DEADLINE_MS = 300
_TIMES = {"answer": f"{DEADLINE_MS}ms"}
_SILENT = f"accepts and is silent; the route's `answer` is {DEADLINE_MS} ms"


async def _resets(connection: Connection, request: Request) -> None:
    connection.reset()


async def _is_silent(connection: Connection, request: Request) -> None:
    await connection.silence()


FAULTS: dict[str, Behaviour | None] = {
    "connection refused": None,
    "connection reset before an answer": _resets,
    "500": answers(500, error("boom")),
    _SILENT: _is_silent,
}


def measured() -> dict[str, tuple[float, float]]:
    """`measure` of the compiled build, in a process of its own. Raises CalledProcessError."""
    env = {**os.environ, **compiled_environment()}
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.failover"], cwd=REPOSITORY, env=env, check=True, capture_output=True
    )
    return {name: (p50, p99) for name, (p50, p99) in json.loads(done.stdout).items()}


def measure() -> dict[str, tuple[float, float]]:
    """Fault → median and 99th percentile of the added time, in ms."""
    return {name: uvloop.run(_fault(name, behave)) for name, behave in FAULTS.items()}


async def _fault(name: str, behave: Behaviour | None) -> tuple[float, float]:
    bad = await Upstream([behave or says("no")]).start()
    good = await Upstream([says("ok")]).start()
    if behave is None:
        await bad.stop()
    backends = [
        external("bad", f"http://127.0.0.1:{bad.port}/v1"),
        external("good", f"http://127.0.0.1:{good.port}/v1"),
    ]
    broken = table(backends, [route("bad", "good", timeouts=_TIMES)])
    plain = table(backends, [route("good", timeouts=_TIMES)])
    added = []
    async with gateway(plain) as g, connected(g.port) as client:
        for _ in range(SILENT_REQUESTS if name == _SILENT else REQUESTS):
            g.state.set_table(plain)
            direct = await _timed(g, client)
            # Another table in between: health begins anew, so the broken one is asked each time.
            g.state.set_table(table([], []))
            g.state.set_table(broken)
            added.append(await _timed(g, client) - direct)
    await bad.stop()
    await good.stop()
    return median(added), quantiles(added, n=100)[98]


async def _timed(g: Running, client: RawClient) -> float:
    request = chat_request(chat_body())
    began = time.perf_counter()
    await client.send(request)
    got = await client.receive()
    took = (time.perf_counter() - began) * 1000
    if got.status != 200 or got.headers["x-pointsman-backend"] != "good":
        raise RuntimeError(f"{got.status} {got.body!r} {g.meter.verdicts[-2:]}")
    return took


if __name__ == "__main__":
    print(json.dumps(measure()))
