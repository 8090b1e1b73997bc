"""External backends through the proxy of the environment: traffic and checks, and each fault of the proxy."""

from __future__ import annotations

import base64
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from tests.support.certificates import Authority
from tests.support.engine import Engine, Reply
from tests.support.http_proxy import HttpProxy
from tests.support.raw_client import chat
from tests.support.running_gateway import external, gateway, ollama, route, table
from tests.support.upstream import says

from pointsman.domain.health import State
from pointsman.domain.probed import Probed, ProbeOutcome
from pointsman.domain.proxies import Proxies, Proxy, read_proxies
from pointsman.domain.table import RoutingTable, SecretValue
from pointsman.gateway.probes.cheap import probe
from pointsman.gateway.probes.client import ProbeClient

SECRETS = {"key": SecretValue("1", {"api-key": "sk-1"})}


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ours"))


def secure(ours: Authority) -> RoutingTable:
    """`https://engine.test`, a name that only the proxy knows."""
    backend = external("a", "https://engine.test/v1", secret="key", bundle="ca")
    return table([backend], [route("a")], secrets=SECRETS, bundles={"ca": ours.pem})


def plain() -> RoutingTable:
    return table([external("a", "http://engine.test:8000/v1", secret="key")], [route("a")], secrets=SECRETS)


def through(proxy: HttpProxy) -> Proxies:
    return Proxies(http=proxy.here, https=proxy.here)


async def checked(compiled: RoutingTable, proxies: Proxies) -> Probed:
    backend = compiled.backends["a"]
    async with ProbeClient(proxies=proxies) as client:
        return await probe(client, backend, backend.endpoints[0])


async def test_https_goes_through_a_tunnel_that_hides_everything(ours: Authority, upstream: Any) -> None:
    a = await upstream(says("ok"), tls=ours.server("good"))
    async with (
        HttpProxy({"engine.test:443": a.port}) as proxy,
        gateway(secure(ours), proxies=through(proxy)) as g,
    ):
        for stream in (False, True):
            assert (await chat(g.port, stream=stream)).status == 200
        assert proxy.asked == ["CONNECT engine.test:443 HTTP/1.1"], "the tunnel is kept for the next request"
        assert "sk-1" not in "".join(proxy.heads)
    assert (a.seen[0].headers["host"], a.seen[0].headers["authorization"]) == ("engine.test", "Bearer sk-1")
    assert "proxy-authorization" not in a.seen[0].headers


async def test_http_is_asked_of_the_proxy_with_the_whole_url(upstream: Any) -> None:
    a = await upstream(says("ok"))
    async with HttpProxy({"engine.test:8000": a.port}) as proxy, gateway(plain(), proxies=through(proxy)) as g:
        assert (await chat(g.port)).status == 200
        assert proxy.asked == ["POST http://engine.test:8000/v1/chat/completions HTTP/1.1"]
    assert (a.seen[0].path, a.seen[0].headers["host"]) == ("/v1/chat/completions", "engine.test:8000")


async def test_credentials_are_for_the_proxy_alone(ours: Authority, upstream: Any) -> None:
    a = await upstream(says("ok"), tls=ours.server("good"))
    wanted = "Basic " + base64.b64encode(b"me:p@ss").decode()
    async with HttpProxy({"engine.test:443": a.port}, credentials=wanted) as proxy:
        url = f"http://me:p%40ss@127.0.0.1:{proxy.port}"
        async with gateway(secure(ours), proxies=read_proxies({"HTTPS_PROXY": url})) as g:
            assert (await chat(g.port)).status == 200
    assert "proxy-authorization" not in a.seen[0].headers
    b = await upstream(says("ok"))
    async with HttpProxy({"engine.test:8000": b.port}, credentials=wanted) as proxy:
        url = f"http://me:p%40ss@127.0.0.1:{proxy.port}"
        async with gateway(plain(), proxies=read_proxies({"HTTP_PROXY": url})) as g:
            assert (await chat(g.port)).status == 200
            assert "p@ss" not in repr(g.server.path.dialer.__dict__) + repr(g.state.report_snapshot())


async def test_checks_go_the_same_way(ours: Authority) -> None:
    wanted = "Basic " + base64.b64encode(b"me:p").decode()
    async with (
        Engine({"/v1/models": Reply()}, tls=ours.server("good")) as tls,
        Engine({"/v1/models": Reply()}) as open_,
        HttpProxy({"engine.test:443": tls.port, "engine.test:8000": open_.port}, credentials=wanted) as proxy,
    ):
        here = replace(proxy.here, authorization=wanted)
        for compiled in (secure(ours), plain()):
            found = await checked(compiled, Proxies(http=here, https=here))
            assert found.outcome is ProbeOutcome.OK, found
        assert [line.split()[0] for line in proxy.asked] == ["CONNECT", "GET"]
        assert proxy.asked[1] == "GET http://engine.test:8000/v1/models HTTP/1.1"
    assert tls.asked[0].headers["Authorization"] == "Bearer sk-1"
    assert "Proxy-Authorization" not in tls.asked[0].headers


FAULTS = [
    ("407", "ProxyFailed", "its proxy wants credentials (407): put them into the proxy's URL,"
     " http://user:password@host:port"),
    ("403", "ProxyFailed", "its proxy forbids the way to it (403)"),
    ("502", "ProxyFailed", "its proxy cannot reach it (502)"),
    ("418", "ProxyFailed", "its proxy answered 418 to CONNECT"),
    ("close", "ProxyFailed", "its proxy closed the connection"),
    ("garbage", "ProxyFailed", "its proxy does not speak HTTP"),
    ("endless", "ProxyFailed", "its proxy sends a head without an end"),
    ("chatter", "ProxyFailed", "its proxy sends bytes into the tunnel"),
    ("hang", "ConnectTimeout", "its proxy opened no way to it within its time"),
]  # fmt: skip


@pytest.mark.parametrize(("mode", "why", "sentence"), FAULTS)
async def test_each_fault_of_a_proxy_moves_the_request_on_with_its_own_words(
    mode: str, why: str, sentence: str, ours: Authority, upstream: Any
) -> None:
    a, b = await upstream(says("a"), tls=ours.server("good")), await upstream(says("b"))
    backends = [
        external("a", "https://engine.test/v1", bundle="ca"), external("b", f"http://127.0.0.1:{b.port}/v1"),
    ]  # fmt: skip
    times = {"connect": "1s"} if mode == "hang" else {}
    compiled = table(backends, [route("a", "b", timeouts=times)], bundles={"ca": ours.pem})
    async with (
        HttpProxy({"engine.test:443": a.port}, mode=mode) as proxy,
        gateway(compiled, proxies=through(proxy)) as g,
    ):
        for _ in range(5):
            assert (await chat(g.port)).headers["x-pointsman-backend"] == "b"
        assert g.meter.verdicts[0] == ("a", "Failure", why)
        machine = g.machine("a")
        assert (machine.state, machine.reason, machine.message) == (State.UNHEALTHY, why, sentence)
    assert not a.seen


async def test_a_proxy_for_http_that_wants_credentials_is_no_fault_of_the_caller(upstream: Any) -> None:
    b = await upstream(says("b"))
    backends = [external("a", "http://engine.test:8000/v1"), external("b", f"http://127.0.0.1:{b.port}/v1")]
    async with HttpProxy(mode="407") as proxy, gateway(table(backends, [route("a", "b")]), proxies=through(proxy)) as g:
        assert (await chat(g.port)).headers["x-pointsman-backend"] == "b"
        assert g.meter.verdicts[0] == ("a", "Failure", "ProxyFailed")


@contextmanager
def closed_port() -> Iterator[int]:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


async def test_a_proxy_that_is_not_there_is_not_taken_for_the_backend(ours: Authority) -> None:
    with closed_port() as port:
        for proxy, sentence in (
            (Proxy("127.0.0.1", port), "its proxy refuses connections"),
            (Proxy("no-such-proxy.invalid", 3128), "the name of its proxy cannot be resolved"),
        ):
            proxies = Proxies(http=proxy, https=proxy)
            for compiled in (secure(ours), plain()):
                async with gateway(compiled, proxies=proxies) as g:
                    for _ in range(5):
                        assert (await chat(g.port)).status == 502
                    assert set(g.meter.verdicts) == {("a", "Failure", "ProxyFailed")}
                    assert g.machine("a").message == sentence
                found = await checked(compiled, proxies)
                assert (found.reason, found.message) == ("ProxyFailed", sentence)


@pytest.mark.parametrize(("mode", "sentence"), [(m, s) for m, w, s in FAULTS if m in ("407", "403", "502")])
async def test_checks_name_the_proxy_too(mode: str, sentence: str, ours: Authority) -> None:
    async with HttpProxy(mode=mode) as proxy:
        found = await checked(secure(ours), through(proxy))
    assert (found.outcome, found.reason, found.message) == (ProbeOutcome.FAILED, "ProxyFailed", sentence)


async def test_a_proxy_that_we_cannot_use_is_said_and_not_passed_over(ours: Authority, upstream: Any) -> None:
    """To go directly instead would tell the world what was meant to stay within."""
    proxies = read_proxies({"ALL_PROXY": "socks5://127.0.0.1:1080"})
    sentence = "the environment names a proxy with socks5://; only http:// proxies are supported"
    async with gateway(secure(ours), proxies=proxies) as g:
        for _ in range(5):
            assert (await chat(g.port)).status == 502
        assert g.machine("a").message == sentence
    assert (await checked(plain(), proxies)).message == sentence


async def test_pods_and_loopback_are_never_reached_through_a_proxy(upstream: Any) -> None:
    pod, local = await upstream(says("pod")), await upstream(says("local"))
    backends = [ollama("pods"), external("local", f"http://127.0.0.1:{local.port}/v1")]
    compiled = table(backends, [route("pods", "local")], {"pods": [pod.port]})
    async with HttpProxy() as proxy, gateway(compiled, proxies=through(proxy)) as g:
        assert (await chat(g.port)).headers["x-pointsman-backend"] == "pods"
        await pod.stop()
        assert (await chat(g.port)).headers["x-pointsman-backend"] == "local"
        assert proxy.asked == []
