"""What a gateway keeps of streams that wait and of load that is over: memory for each, and nothing."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from pathlib import Path

import aiohttp
from tests.bench import mock, streams
from tests.bench.idle import back_to, hold, settled
from tests.bench.peers import manifests
from tests.bench.process import Process
from tests.bench.soak import in_flight, leaving, looked_at, sampled, slope_of
from tests.cluster.cache import REPOSITORY
from tests.support.engine import until
from tests.support.ports import free_port
from tests.support.raw_client import chat, chat_body, chat_request, connected
from tests.support.running_gateway import external, gateway, route, table
from tests.support.upstream import Upstream, says

STREAMS = 200
SOAK_SECONDS = 6.0
_CORE = 0


def started(tmp_path: Path, **modes: str) -> tuple[list[Process], Process, int, int]:
    """Backends in these modes, one for each route's name, and a gateway before them: its port and its admin port."""
    backends, routes = [], {}
    for name, mode in modes.items():
        routes[name] = free_port()
        argv = [sys.executable, "-m", "tests.bench.mock", mode, str(routes[name])]
        backends.append(Process(argv, _CORE + 1, tmp_path / f"{name}.log", cwd=REPOSITORY))
        backends[-1].wait_port(routes[name])
    port, admin = free_port(), free_port()
    argv = [
        sys.executable, "-m", "pointsman", "gateway", "--manifests", str(manifests(tmp_path, routes)),
        "--port", str(port), "--admin-port", str(admin), "--access-log", "--drain-delay", "0",
    ]  # fmt: skip
    process = Process(argv, _CORE, tmp_path / "gateway.log", cwd=REPOSITORY, out=tmp_path / "access.log")
    process.wait_port(port)
    return backends, process, port, admin


async def test_a_waiting_stream_costs_little_and_leaves_nothing(tmp_path: Path) -> None:
    backends, process, port, admin = started(tmp_path, chat="idle")
    try:
        found = await hold(process, port, STREAMS)
        assert found.kb_each < 64
        assert found.files_left == 0
        assert await asyncio.to_thread(in_flight, admin) == 0
    finally:
        for p in (process, *backends):
            p.stop()


async def test_load_that_is_over_leaves_nothing(tmp_path: Path) -> None:
    """Whole answers, streams and clients that leave: memory does not grow with them, and no socket stays."""
    backends, process, port, admin = started(tmp_path, chat="json", talk="stream")
    try:
        streams.close([await streams.begin(port, model="talk")])
        files = await settled(process)
        async with aiohttp.ClientSession(headers={"content-type": "application/json"}) as http:
            load = asyncio.gather(
                leaving(port, SOAK_SECONDS),
                *(_asks(http, port, model) for model in ("chat", "chat", "chat", "talk")),
            )
            samples = await asyncio.to_thread(sampled, process, SOAK_SECONDS)
            left, *answers = await load
        assert left > 5
        assert sum(answers) > 50
        assert slope_of(looked_at(samples, SOAK_SECONDS)).least_grown_mb < 2.0
        # Idle connections to the backends stay in the pool for their time; those of this load are at most as many.
        assert await back_to(process, files + 6, 30) == 0
        assert await asyncio.to_thread(in_flight, admin) == 0
    finally:
        for p in (process, *backends):
            p.stop()


async def _asks(http: aiohttp.ClientSession, port: int, model: str) -> int:
    """One request after the other; how many."""
    stream = model == "talk"
    body = streams.body(stream, model=model)
    count, end = 0, asyncio.get_running_loop().time() + SOAK_SECONDS
    while asyncio.get_running_loop().time() < end:
        async with http.post(f"http://127.0.0.1:{port}{streams.PATH}", data=body) as answer:
            data = await answer.read()
            assert answer.status == 200
            assert data.count(b"data: ") == mock.EVENTS + 1 if stream else b"finish_reason" in data
        count += 1
    return count


async def test_no_task_and_no_socket_stays() -> None:
    upstream = await Upstream([says("ok")]).start()
    compiled = table([external("b", f"http://127.0.0.1:{upstream.port}/v1")], [route("b")])
    async with gateway(compiled) as g:
        await chat(g.port)
        gc.collect()
        tasks, files = len(asyncio.all_tasks()), len(os.listdir("/proc/self/fd"))
        for n in range(200):
            await chat(g.port, stream=bool(n % 2))
        while len(asyncio.all_tasks()) > tasks or len(os.listdir("/proc/self/fd")) > files:  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # a socket that both sides closed is gone a turn later
        assert g.meter.started == len(g.meter.requests)
    await upstream.stop()


async def test_connections_that_are_over_leave_no_work_to_the_garbage_collector() -> None:
    """It looks so seldom that what waits for it would be taken for a leak."""
    upstream = await Upstream([says("ok")]).start()
    compiled = table([external("b", f"http://127.0.0.1:{upstream.port}/v1")], [route("b")])
    async with gateway(compiled) as g:
        await chat(g.port)
        gc.collect()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            for n in range(20):
                await chat(g.port, stream=bool(n % 2))
                async with connected(g.port) as client:
                    await client.send(chat_request(chat_body())[: -n or None])  # it leaves before its answer comes
            await until(lambda: not g.server.connections)
            await asyncio.sleep(0)  # and what the loop itself does once a connection is gone
            gc.collect()
            ours = [o for o in gc.garbage if type(o).__module__.partition(".")[0] in ("pointsman", "httptools")]
            assert ours == []
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
    await upstream.stop()
