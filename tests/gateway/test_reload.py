"""Changes under load: new manifests, bad manifests, SIGHUP and SIGTERM lose no request."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from tests.gateway.test_standalone import backend, get, route
from tests.support import openai_engine
from tests.support.engine import Engine, until
from tests.support.gateway_process import GatewayProcess, gateway_process

CLIENTS = 12


class Load:
    """Clients with connections of their own that ask one after another until told to stop; every answer is judged."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self._gateway = gateway
        self._stop = asyncio.Event()
        self.served: Counter[str] = Counter()
        self.failures: list[str] = []

    def stop(self) -> None:
        """No new requests; those in flight go on."""
        self._stop.set()

    async def run(self) -> None:
        await asyncio.gather(*(self._client(stream=bool(i % 2)) for i in range(CLIENTS)))

    async def _client(self, stream: bool) -> None:
        body = {"model": "chat", "stream": stream, "messages": [{"role": "user", "content": "hi"}]}
        url = f"{self._gateway.url}{openai_engine.CHAT}"
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as http:
            while not self._stop.is_set():
                try:
                    async with http.post(url, json=body) as answer:
                        text = await answer.text()
                except (aiohttp.ClientError, OSError) as error:
                    self.failures.append(repr(error))
                    continue
                whole = text.endswith("data: [DONE]\n\n") if stream else '"finish_reason": "stop"' in text
                if answer.status == 200 and whole:
                    self.served[answer.headers["x-pointsman-backend"]] += 1
                else:
                    self.failures.append(f"{answer.status} {text[:300]}")


@asynccontextmanager
async def load(gateway: GatewayProcess) -> AsyncIterator[Load]:
    clients = Load(gateway)
    task = asyncio.create_task(clients.run())
    try:
        yield clients
    finally:
        clients.stop()
        await asyncio.wait_for(task, 60)


def replace(path: Path, text: str) -> None:
    """As an editor saves: beside it, then over it."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text)
    os.replace(temporary, path)


async def enough(clients: Load, name: str, count: int = 30) -> None:
    """Until `name` has served so many more."""
    before = clients.served[name]
    await until(lambda: clients.served[name] - before >= count, 60, f"an answer by {name}")


async def test_reloads_under_load_fail_no_request(tmp_path: Path) -> None:
    fast = {"tokens": 3, "pause": 0.005}
    async with (
        Engine(openai_engine.replies("one", **fast)) as one,
        Engine(openai_engine.replies("two", **fast)) as two,
    ):
        path = tmp_path / "all.yaml"
        both = backend("one", one.port) + backend("two", two.port)
        path.write_text(both + route("one"))
        async with gateway_process(tmp_path) as gateway, load(gateway) as clients:
            await enough(clients, "one")
            for name, text in (
                ("two", both + route("two")),
                ("one", backend("one", one.port) + route("one")),
                ("two", backend("two", two.port) + route("two", names="chat, other")),
                ("one", both + route("one", "two")),
            ):
                replace(path, text)
                await enough(clients, name)
            clients.stop()
        assert clients.failures == []


async def test_bad_manifests_keep_the_last_good_state_and_say_so(tmp_path: Path) -> None:
    async with Engine(openai_engine.replies("one", tokens=2)) as one, Engine(openai_engine.replies("two")) as two:
        path = tmp_path / "all.yaml"
        good = backend("one", one.port) + route("one")
        path.write_text(good)
        async with gateway_process(tmp_path) as gateway, load(gateway) as clients:
            await enough(clients, "one")
            replace(path, good + "  fallbacks: {}\n")
            await _config(gateway, lastReloadSuccessful=False)
            config = await get(gateway, "/v1/config")
            line = len(good.splitlines()) + 1
            assert config["problems"] == [f"all.yaml:{line}: spec.fallbacks: unknown field"]
            assert await get(gateway, "/readyz") == "ok\n"
            assert "pointsman_config_last_reload_successful 0.0" in await get(gateway, "/metrics")
            assert gateway.messages("error")[0]["problems"] == config["problems"]
            await enough(clients, "one")
            replace(path, backend("two", two.port) + route("two"))
            await enough(clients, "two")
            await _config(gateway, lastReloadSuccessful=True, problems=[])
        assert clients.failures == []


async def _config(gateway: GatewayProcess, **expected: Any) -> None:
    async with asyncio.timeout(30):
        while True:
            config = await get(gateway, "/v1/config")
            if {k: config[k] for k in expected} == expected:
                return
            await asyncio.sleep(0.02)


async def test_sighup_reads_again_and_drops_nothing(tmp_path: Path) -> None:
    async with Engine(openai_engine.replies("one", tokens=2)) as one:
        (tmp_path / "all.yaml").write_text(backend("one", one.port) + route("one"))
        async with gateway_process(tmp_path) as gateway, load(gateway) as clients:
            for _ in range(5):
                await enough(clients, "one", 10)
                gateway.signal(signal.SIGHUP)
            clients.stop()
        assert clients.failures == []


async def test_sigterm_under_load_finishes_every_request(tmp_path: Path) -> None:
    """Like a Service: clients go on for a moment after the gateway became unready, on the connections they have."""
    async with Engine(openai_engine.replies("one", tokens=10, pause=0.05)) as one:
        (tmp_path / "all.yaml").write_text(backend("one", one.port) + route("one"))
        async with gateway_process(tmp_path, "--drain-delay", "5") as gateway:
            async with load(gateway) as clients:
                await enough(clients, "one")
                gateway.signal(signal.SIGTERM)
                await until(lambda: any("stopping" in line for line in gateway.log))
                assert await get(gateway, "/readyz") == "draining\n"
                await asyncio.sleep(0.5)
            assert clients.failures == []
            assert await gateway.ended() == 0
            assert not gateway.messages("error")


async def test_a_long_stream_is_waited_for_and_a_second_signal_is_not(tmp_path: Path) -> None:
    for again in (False, True):
        async with Engine(openai_engine.replies("one", tokens=800 if again else 40, pause=0.05)) as one:
            (tmp_path / "all.yaml").write_text(backend("one", one.port) + route("one"))
            async with gateway_process(tmp_path, "--drain-delay", "0") as gateway, aiohttp.ClientSession() as http:
                body = {"model": "chat", "stream": True, "messages": []}
                async with http.post(f"{gateway.url}{openai_engine.CHAT}", json=body) as answer:
                    await answer.content.readany()
                    gateway.signal(signal.SIGTERM)
                    if again:
                        insisting = asyncio.create_task(_insist(gateway))
                        assert await gateway.ended(30) == 0, "the stream would take 40 s"
                        await insisting
                    else:
                        assert (await answer.text()).endswith("data: [DONE]\n\n")
                        assert await gateway.ended() == 0


async def _insist(gateway: GatewayProcess) -> None:
    """A signal that follows at once is taken for the same: one after the other until it is over."""
    with contextlib.suppress(ProcessLookupError):
        while True:
            await asyncio.sleep(0.5)
            gateway.signal(signal.SIGTERM)


async def test_connections_that_are_kept_learn_that_the_gateway_leaves(tmp_path: Path) -> None:
    """A stream that began before goes on, its connection takes one more request, and that answer announces its end."""
    async with Engine(openai_engine.replies("one", tokens=20, pause=0.05)) as one:
        (tmp_path / "all.yaml").write_text(backend("one", one.port) + route("one"))
        connector = aiohttp.TCPConnector(limit=1)
        async with (
            gateway_process(tmp_path, "--drain-delay", "0.2") as gateway,
            aiohttp.ClientSession(connector=connector) as http,
        ):
            body = {"model": "chat", "stream": True, "messages": []}
            async with http.post(f"{gateway.url}{openai_engine.CHAT}", json=body) as answer:
                assert "connection" not in answer.headers
                await answer.content.readany()
                gateway.signal(signal.SIGTERM)
                assert (await answer.text()).endswith("data: [DONE]\n\n")
            async with http.post(f"{gateway.url}{openai_engine.CHAT}", json={**body, "stream": False}) as answer:
                assert answer.status == 200
                assert answer.headers["connection"] == "close"
            assert await gateway.ended() == 0
            assert not gateway.messages("error")
