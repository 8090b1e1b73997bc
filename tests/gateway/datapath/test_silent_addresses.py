"""An address that answers nothing, not even with a refusal: a node that is down, a pod that was torn away."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

from tests.support.engine import until
from tests.support.raw_client import chat
from tests.support.running_gateway import external, gateway, ollama, route, table
from tests.support.upstream import says


@contextlib.asynccontextmanager
async def silent_port() -> AsyncIterator[int]:
    """A port whose queue of unaccepted connections is full: the kernel drops every further SYN."""
    with contextlib.ExitStack() as open_:
        listener = open_.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        for _ in range(8):
            filler = open_.enter_context(socket.socket())
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect(("127.0.0.1", port))
        yield port


async def test_no_connection_in_time_moves_the_request_on(upstream: Any) -> None:
    good = await upstream(says("ok"))
    async with silent_port() as port:
        backends = [external("a", f"http://127.0.0.1:{port}/v1"), external("b", f"http://127.0.0.1:{good.port}/v1")]
        async with gateway(table(backends, [route("a", "b", timeouts={"connect": "1s"})])) as g:
            got = await chat(g.port)
            assert got.headers["x-pointsman-backend"] == "b"
            assert g.meter.verdicts == [("a", "Failure", "ConnectTimeout"), ("b", "Success", "Answered")]


async def test_a_pod_that_leaves_while_it_is_dialled_moves_the_request_on_at_once(upstream: Any) -> None:
    good = await upstream(says("ok"))
    backends = [ollama("pods"), external("b", f"http://127.0.0.1:{good.port}/v1")]
    routes = [route("pods", "b", timeouts={"connect": "30s"})]
    async with silent_port() as port, gateway(table(backends, routes, {"pods": [port]})) as g:
        began = time.monotonic()
        request = asyncio.create_task(chat(g.port))
        key = g.state.table.backends["pods"].endpoints[0].key
        await until(lambda: g.state.health.in_flight(key), what="the pod is being dialled")
        g.state.set_table(table(backends, routes, {"pods": []}))
        got = await request
        took = time.monotonic() - began
        assert got.headers["x-pointsman-backend"] == "b"
        assert g.meter.verdicts == [("pods", "Failure", "EndpointGone"), ("b", "Success", "Answered")]
        assert took < 15, "half of `connect`"
