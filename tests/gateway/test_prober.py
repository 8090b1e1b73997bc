"""The prober against real sockets: what each answer says of an endpoint, and when it asks."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from tests.support.engine import Engine, Reply, until

from pointsman.api.objects import LLMBackend
from pointsman.domain.compiling import compile_table
from pointsman.domain.engine_load import EngineLoad
from pointsman.domain.health import State
from pointsman.domain.probed import Probed, ProbeOutcome
from pointsman.domain.table import Backend, PodEndpoint, RoutingTable, SecretValue
from pointsman.gateway.probes.cheap import probe
from pointsman.gateway.probes.client import ProbeClient
from pointsman.gateway.probes.prober import Prober
from pointsman.gateway.state import GatewayState

DIGEST = "sha256:" + "a" * 64


def external(url: str, name: str = "hosted", secret: str = "sk-1", version: str = "1", **probing: Any) -> RoutingTable:
    body = {
        "metadata": {"name": name},
        "spec": {
            "engine": "External",
            "models": [{"name": "small"}],
            "external": {"url": url, "secretRef": {"name": "key"}},
            "probe": {"interval": "100ms", "timeout": "20s", **probing},
        },
    }
    return compile_table([LLMBackend.parse(body)], [], {}, {"key": SecretValue(version, {"api-key": secret})})


def ollama(port: int, **probing: Any) -> RoutingTable:
    body = {
        "metadata": {"name": "local"},
        "spec": {
            "engine": "Ollama",
            "models": [{"name": "tiny", "source": "ollama://tiny:1b"}, {"name": "pinned", "source": "ollama://pinned"}],
            "probe": {"interval": "100ms", "timeout": "20s", **probing},
        },
        "status": {"models": [{"name": "pinned", "digest": DIGEST}]},
    }
    return compile_table([LLMBackend.parse(body)], [], {"local": (PodEndpoint("uid-1", "127.0.0.1", port),)}, {})


def only(table: RoutingTable) -> Backend:
    (backend,) = table.backends.values()
    return backend


async def once(table: RoutingTable) -> Probed:
    backend = only(table)
    async with ProbeClient() as client:
        return await probe(client, backend, backend.endpoints[0])


@pytest.fixture
async def state() -> AsyncIterator[GatewayState]:
    state = GatewayState("test")
    prober = Prober(state)
    await prober.start()
    yield state
    await prober.close()


async def left_alone(engine: Engine) -> None:
    """Until nobody asks it for five intervals. A check that was under way may still come."""
    for _ in range(5):
        asked = len(engine.asked)
        await asyncio.sleep(0.5)
        if len(engine.asked) == asked:
            return
    raise AssertionError("it is asked again and again")


def health(state: GatewayState) -> Any:
    (backend,) = state.table.backends.values()
    return state.health.snapshot(backend.endpoints[0].key, state.clock())


LOADING = {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}


@pytest.mark.parametrize(
    ("reply", "outcome", "reason"),
    [
        (Reply(body={"data": [{"id": "other"}]}), ProbeOutcome.OK, ""),
        (Reply(200, "<html>a proxy</html>"), ProbeOutcome.FAILED, "NotJson"),
        (Reply(404), ProbeOutcome.UNSUPPORTED, "ProbeUnsupported"),
        (Reply(405), ProbeOutcome.UNSUPPORTED, "ProbeUnsupported"),
        (Reply(401), ProbeOutcome.DENIED, "Unauthorized"),
        (Reply(402), ProbeOutcome.DENIED, "PaymentRequired"),
        (Reply(403), ProbeOutcome.DENIED, "Forbidden"),
        (Reply(429, headers={"Retry-After": "7"}), ProbeOutcome.BUSY, "RateLimited"),
        (Reply(529), ProbeOutcome.BUSY, "RateLimited"),
        (Reply(302, headers={"Location": "http://127.0.0.1:9/"}), ProbeOutcome.FAILED, "Redirect"),
        (Reply(500, "<html>"), ProbeOutcome.FAILED, "ServerError"),
        (Reply(502), ProbeOutcome.FAILED, "ServerError"),
        (Reply(503), ProbeOutcome.FAILED, "ServerError"),
        (Reply(503, LOADING), ProbeOutcome.LOADING, "Loading"),
    ],
)
async def test_each_answer_of_an_external_has_its_meaning(reply: Reply, outcome: ProbeOutcome, reason: str) -> None:
    async with Engine({"/v1/models": reply}) as engine:
        found = await once(external(f"{engine.url}/v1"))
    assert (found.outcome, found.reason) == (outcome, reason)
    assert found.missing is None
    assert found.retry_after == (7.0 if reply.headers.get("Retry-After") else None)


def vllm(port: int, **model: Any) -> RoutingTable:
    body = {
        "metadata": {"name": "local"},
        "spec": {
            "engine": "VLLM",
            "models": [{"name": "tiny", "source": "hf://org/tiny", **model}],
            "probe": {"interval": "50ms", "timeout": "20s"},
        },
    }
    return compile_table([LLMBackend.parse(body)], [], {"local": (PodEndpoint("uid-1", "127.0.0.1", port),)}, {})


async def test_an_engine_that_tells_its_load_is_heard_and_may_fall_silent(state: GatewayState) -> None:
    page = 'vllm:num_requests_running{x="y"} 3.0\nvllm:num_requests_waiting{x="y"} 2.0\nvllm:kv_cache_usage_perc 0.5\n'
    listed = Reply(body={"object": "list", "data": [{"id": "tiny"}]})
    async with Engine({"/v1/models": listed, "/metrics": Reply(body=page)}) as engine:
        state.set_table(vllm(engine.port))
        await until(lambda: health(state).load == EngineLoad(3, 2, 0.5))
        ((told,),) = [b.endpoints for b in state.report_snapshot().backends]
        assert (told.running, told.waiting, told.cache_usage) == (3, 2, 0.5)
        engine.replies["/metrics"] = Reply(500)
        await until(lambda: health(state).load is None)
        assert health(state).state is State.HEALTHY, "that it tells no figures is no failure"
        engine.replies["/metrics"] = Reply(body=page)
        await until(lambda: health(state).load is not None)
        engine.replies["/v1/models"] = Reply(500)
        await until(lambda: health(state).load is None)


async def test_an_adapter_that_vllm_does_not_list_is_missing_until_it_does(state: GatewayState) -> None:
    listed = {"object": "list", "data": [{"id": "tiny"}]}
    async with Engine({"/v1/models": Reply(body=listed)}) as engine:
        state.set_table(vllm(engine.port, adapters=[{"name": "sql", "source": "hf://org/sql"}]))
        await until(lambda: health(state).missing_models == ("sql",))
        engine.replies["/v1/models"] = Reply(body={"data": [*listed["data"], {"id": "sql", "parent": "tiny"}]})
        await until(lambda: health(state).missing_models == ())


async def test_the_credential_and_the_host_are_sent() -> None:
    async with Engine({"/v1/models": Reply()}) as engine:
        await once(external(f"{engine.url.replace('127.0.0.1', 'localhost')}/v1", secret="sk-9"))
    assert engine.asked[0].headers["Authorization"] == "Bearer sk-9"
    assert engine.asked[0].headers["Host"] == f"localhost:{engine.port}"


async def test_refused_reset_and_silent_servers_fail_with_a_reason() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        found = await once(external(f"http://127.0.0.1:{port}/v1", timeout="500ms"))
        assert (found.outcome, found.reason) == (ProbeOutcome.TIMED_OUT, "ProbeTimeout")
        assert found.message == "no answer to its check within 0.5 s"
    found = await once(external(f"http://127.0.0.1:{port}/v1"))
    assert (found.outcome, found.reason, found.message) == (ProbeOutcome.FAILED, "Refused", "it refuses connections")

    async def hang_up(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async with Engine({"/v1/models": hang_up}) as engine:
        found = await once(external(f"{engine.url}/v1"))
    assert (found.reason, found.message) == ("Reset", "it closed the connection")


async def test_a_server_that_speaks_no_http_fails_with_a_reason() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        found = await once(external(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"))
    assert (found.reason, found.message) == ("BrokenHttp", "it does not answer in HTTP")


async def test_dns_failure_names_no_url() -> None:
    found = await once(external("http://away.invalid/v1"))
    assert (found.outcome, found.reason) == (ProbeOutcome.FAILED, "DnsFailed")
    assert found.message == "its host name cannot be resolved"


@pytest.fixture
def own_certificate(tmp_path: Path) -> ssl.SSLContext:
    key, cert = tmp_path / "k.pem", tmp_path / "c.pem"
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=x")
    files = ("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert)
    subprocess.run(("openssl", "req", "-x509", *curve, *files), check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context


_SELF_SIGNED = "its certificate is self-signed and not trusted: give it in external.caBundleRef"


async def test_untrusted_and_missing_tls_are_told_apart(own_certificate: ssl.SSLContext) -> None:
    async with Engine({"/v1/models": Reply()}, tls=own_certificate) as engine:
        found = await once(external(f"{engine.url}/v1"))
    assert (found.reason, found.message) == ("TlsFailed", _SELF_SIGNED)
    async with Engine({"/v1/models": Reply()}) as engine:
        found = await once(external(f"{engine.url.replace('http:', 'https:')}/v1"))
    assert found.reason == "TlsFailed"
    assert found.message == "it does not speak TLS: does its url begin with http?"


async def test_ollama_lists_what_is_missing() -> None:
    tags: dict[str, Any] = {"models": [{"name": "tiny:1b", "model": "tiny:1b"}]}
    async with Engine({"/api/version": Reply(body={"version": "0.17.4"}), "/api/tags": Reply(body=tags)}) as engine:
        table = ollama(engine.port)
        pinned = only(table).models["pinned"]
        assert (await once(table)).missing == {pinned}
        tags["models"].append({"name": pinned})
        found = await once(table)
        assert (found.outcome, found.missing) == (ProbeOutcome.OK, frozenset())
        engine.replies["/api/tags"] = Reply(200, {"unexpected": True})
        assert (await once(table)).missing is None


async def test_new_endpoint_is_checked_at_once_and_then_every_interval(state: GatewayState) -> None:
    async with Engine({"/v1/models": Reply()}) as engine:
        state.set_table(external(f"{engine.url}/v1", interval="1h"))
        await until(lambda: health(state).state is State.HEALTHY)
        assert health(state).latency_ms > 0
    async with Engine({"/v1/models": Reply()}) as engine:
        started = time.monotonic()
        state.set_table(external(f"{engine.url}/v1", interval="1s"))
        await until(lambda: len(engine.asked) >= 4)
        assert time.monotonic() - started > 2.7


async def test_failure_threshold_ejects_and_success_threshold_brings_back(state: GatewayState) -> None:
    async with Engine({"/v1/models": Reply()}) as engine:
        state.set_table(external(f"{engine.url}/v1"))
        await until(lambda: health(state).state is State.HEALTHY)
        engine.replies["/v1/models"] = Reply(500)
        await until(lambda: health(state).state is State.UNHEALTHY)
        assert (health(state).reason, health(state).message) == ("ServerError", "it answered 500 to its check")
        engine.replies["/v1/models"] = Reply()
        await until(lambda: health(state).state is State.PROBATION)


async def test_a_removed_endpoint_is_asked_no_more_and_a_new_credential_at_once(state: GatewayState) -> None:
    async with Engine({"/v1/models": Reply(401)}) as engine:
        table = external(f"{engine.url}/v1", interval="1h")
        state.set_table(table)
        await until(lambda: health(state).denied)
        engine.replies["/v1/models"] = Reply()
        state.set_table(external(f"{engine.url}/v1", secret="sk-2", version="2", interval="1h"))
        await until(lambda: health(state).state is State.HEALTHY)
        assert [a.headers["Authorization"] for a in engine.asked] == ["Bearer sk-1", "Bearer sk-2"]
        assert not health(state).denied
        state.set_table(external(f"{engine.url}/v1", secret="sk-2", version="2"))
        await until(lambda: len(engine.asked) >= 4)
        state.set_table(RoutingTable())
        await left_alone(engine)


async def test_missing_model_is_set_and_healed_by_the_list(state: GatewayState) -> None:
    tags: dict[str, Any] = {"models": [{"name": "tiny:1b"}]}
    async with Engine({"/api/version": Reply(), "/api/tags": Reply(body=tags)}) as engine:
        table = ollama(engine.port)
        state.set_table(table)
        await until(lambda: health(state).missing_models == ("pinned",))
        assert health(state).state is State.HEALTHY
        tags["models"].append({"name": only(table).models["pinned"]})
        await until(lambda: health(state).missing_models == ())


async def test_500_idle_endpoints_cost_little(state: GatewayState) -> None:
    """Checks at the default interval must leave the core to the requests: here 100 checks a second, of 2 requests."""
    async with Engine({"/api/version": Reply(), "/api/tags": Reply(body={"models": []})}) as engine:
        table = ollama(engine.port, interval="5s")
        backend = replace(
            only(table),
            endpoints=tuple(replace(only(table).endpoints[0], key=f"uid-{i}") for i in range(500)),
        )
        state.set_table(RoutingTable({"local": backend}))
        await until(lambda: len(engine.asked) >= 1000, 60)
        await asyncio.sleep(5.5)
        asked, spent, began = len(engine.asked), time.process_time(), time.monotonic()
        await asyncio.sleep(5.0)
        asked = len(engine.asked) - asked
        rate = asked / (time.monotonic() - began)
        each = (time.process_time() - spent) / asked
        state.set_table(RoutingTable({}))
    bare = await cost_of_a_bare_request(rate)
    print(f"{rate:.0f} requests a second, each {each * 1e6:.0f} µs, a bare one {bare * 1e6:.0f} µs")
    assert rate < 250
    assert each < 2 * bare, "with the answering server of this process in both"


async def cost_of_a_bare_request(rate: float, count: int = 400) -> float:
    """CPU seconds, the answering server included: what this machine needs at least. `rate`: a second; who wakes up
    seldom pays more for it, the more so on a busy machine."""
    async with (
        Engine({"/api/version": Reply()}) as engine,
        aiohttp.ClientSession() as http,
    ):
        spent = time.process_time()
        for _ in range(count):
            async with http.get(f"{engine.url}/api/version") as answer:
                await answer.read()
            await asyncio.sleep(1 / rate)
        return (time.process_time() - spent) / count
