"""The operator's side of vLLM's adapter API, over real sockets, with pods that speak it as vLLM documents it.

A real vLLM has not taken these calls yet: docs/reference/engines/vllm.md says so.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from tests.operator.worker import address
from tests.unit.controllers.cluster import backend, observed, pod, settled
from tests.unit.controllers.test_adapters import LAW, SQL, spec
from tests.unit.controllers.test_plan_backend import DIGEST, ended

from pointsman.controllers.adapter_calls import AdapterCalls
from pointsman.controllers.observed import Observed
from pointsman.controllers.plan_backend import Plan


class Server:
    """A pod's server."""

    def __init__(self) -> None:
        self.address = address()
        self.loaded: dict[str, str] = {}
        self.asked = 0
        self.refuses = ""
        app = web.Application()
        app.add_routes([
            web.get("/v1/models", self._models),
            web.post("/v1/load_lora_adapter", self._load),
            web.post("/v1/unload_lora_adapter", self._unload),
        ])  # fmt: skip
        self.runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)

    async def _models(self, _: web.Request) -> web.Response:
        self.asked += 1
        data = [{"id": "m", "root": "/m", "parent": None}]
        data += [{"id": n, "root": p, "parent": "m"} for n, p in self.loaded.items()]
        return web.json_response({"object": "list", "data": data})

    async def _load(self, request: web.Request) -> web.Response:
        body = await request.json()
        if self.refuses:
            error = {"message": self.refuses, "type": "BadRequestError", "code": 400}
            return web.json_response({"error": error}, status=400)
        self.loaded[body["lora_name"]] = body["lora_path"]
        return web.Response(text=f"Success: LoRA adapter '{body['lora_name']}' added successfully.")

    async def _unload(self, request: web.Request) -> web.Response:
        del self.loaded[(await request.json())["lora_name"]]
        return web.Response(text="Success")


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    await server.runner.setup()
    await web.TCPSite(server.runner, server.address, 8000).start()
    yield server
    await server.runner.cleanup()


def seen_with(server: Server, *listed: Any, restarts: int = 0, whole: bool = True) -> tuple[Observed, Plan]:
    """A backend whose one pod is the server; its pulls have ended."""
    engine = {"name": "engine", "restartCount": restarts}
    running = pod("p", podIP=server.address, containerStatuses=[engine])
    seen, todo = settled(observed(backend(spec(*listed)), pods=(running,)))
    if whole:
        pairs = {n: ended(j, "Complete", state="Pulled", digest=DIGEST) for n, j in seen.jobs.items()}
        jobs = {n: job for n, (job, _) in pairs.items()}
        seen = replace(seen, jobs=jobs, pull_pods={n: (worker,) for n, (_, worker) in pairs.items()})
        seen, todo = settled(seen)
    return seen, todo


async def test_a_running_server_gets_what_is_new_and_loses_what_is_gone(server: Server) -> None:
    kept = AdapterCalls()
    assert await kept.keep(*seen_with(server, SQL, whole=False)) == ""
    assert server.loaded == {}, "its files are not there yet"
    assert await kept.keep(*seen_with(server, SQL)) == ""
    assert list(server.loaded) == ["sql"]
    assert await kept.keep(*seen_with(server, SQL, LAW)) == ""
    assert list(server.loaded) == ["sql", "law"]
    assert await kept.keep(*seen_with(server, LAW)) == ""
    assert list(server.loaded) == ["law"]


async def test_it_is_asked_once_until_something_changes_or_it_starts_anew(server: Server) -> None:
    kept = AdapterCalls()
    for _ in range(3):
        await kept.keep(*seen_with(server, SQL))
    assert server.asked == 1
    server.loaded.clear()
    await kept.keep(*seen_with(server, SQL, restarts=1))
    assert list(server.loaded) == ["sql"]
    await AdapterCalls().keep(*seen_with(server, SQL, restarts=1))
    assert server.asked == 3, "a new operator looks for itself"


async def test_a_refusal_is_told_in_the_servers_words_and_tried_again(server: Server) -> None:
    kept = AdapterCalls()
    server.refuses = "LoRA rank 64 is greater than max_lora_rank 16."
    said = await kept.keep(*seen_with(server, SQL))
    assert said == "pod p refuses adapter sql: LoRA rank 64 is greater than max_lora_rank 16."
    server.refuses = ""
    assert await kept.keep(*seen_with(server, SQL)) == ""
    assert list(server.loaded) == ["sql"]


async def test_a_server_that_is_away_is_told_of(server: Server) -> None:
    await server.runner.cleanup()
    said = await AdapterCalls().keep(*seen_with(server, SQL))
    assert said.startswith("pod p could not be asked for its adapters: ")


async def test_a_backend_without_adapters_is_not_asked(server: Server) -> None:
    assert await AdapterCalls().keep(*seen_with(server)) == ""
    assert server.asked == 0
