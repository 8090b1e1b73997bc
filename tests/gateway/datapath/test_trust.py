"""TLS to a backend by authorities of the user's own: who is believed, and what a refusal is called everywhere."""

from __future__ import annotations

import ssl
from typing import Any

import pytest
from tests.support.certificates import Authority
from tests.support.engine import Engine, Reply, until
from tests.support.raw_client import chat, chat_body, chat_request, connected
from tests.support.running_gateway import external, gateway, route, table
from tests.support.upstream import says

from pointsman.domain.health import State
from pointsman.domain.probed import Probed, ProbeOutcome
from pointsman.domain.table import RoutingTable, SecretValue
from pointsman.domain.trust import Trust
from pointsman.gateway.probes.cheap import probe
from pointsman.gateway.probes.client import ProbeClient
from pointsman.gateway.probes.prober import Prober
from pointsman.gateway.upstream.trust import explain_tls, own_tls

BROKEN_DER = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"
OTHER_AUTHORITY = "its certificate is signed by another authority than those of external.caBundleRef"


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ours"))


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("theirs"))


def one(port: int, bundle: str | None) -> RoutingTable:
    """One External on that port, believed by `bundle`."""
    backend = external("a", f"https://127.0.0.1:{port}/v1", bundle="ca" if bundle is not None else None)
    return table([backend], [route("a")], bundles={"ca": bundle} if bundle is not None else {})


async def probed(compiled: RoutingTable) -> Probed:
    backend = compiled.backends["a"]
    async with ProbeClient() as client:
        return await probe(client, backend, backend.endpoints[0])


async def test_a_backend_is_believed_by_its_own_bundle(ours: Authority, upstream: Any) -> None:
    a = await upstream(says("ok"), tls=ours.server("good"))
    junk = "# our authority\n" + ours.pem + "\nand the end\n"
    async with gateway(one(a.port, junk)) as g:
        for stream in (False, True):
            assert (await chat(g.port, stream=stream)).status == 200
        assert a.connections == 1
    async with Engine({"/v1/models": Reply()}, tls=ours.server("good")) as engine:
        assert (await probed(one(engine.port, ours.pem))).outcome is ProbeOutcome.OK


async def test_a_large_request_goes_out_whole_through_tls(ours: Authority, upstream: Any) -> None:
    a = await upstream(says("ok"), tls=ours.server("good"))
    text = "a long prompt " * 40_000
    async with gateway(one(a.port, ours.pem)) as g, connected(g.port) as client:
        for _ in range(2):
            await client.send(chat_request(chat_body(padding=text)))
            assert (await client.receive()).status == 200
    assert [(r.json["model"], r.json["padding"]) for r in a.seen] == [("m", text)] * 2


async def test_a_certificate_that_signed_itself_is_believed_once_it_is_in_the_bundle(
    ours: Authority, upstream: Any
) -> None:
    context, pem = ours.self_signed()
    a = await upstream(says("ok"), tls=context)
    async with gateway(one(a.port, pem)) as g:
        assert (await chat(g.port)).status == 200


@pytest.mark.parametrize(
    ("served", "believed", "sentence"),
    [
        ("expired", "ours", "its certificate has expired"),
        ("other name", "ours", "its certificate is for another address than the one in external.url"),
        ("good", "theirs", OTHER_AUTHORITY),
        ("self-signed", "ours", OTHER_AUTHORITY),
        ("self-signed", None, "its certificate is self-signed and not trusted: give it in external.caBundleRef"),
        ("good", None, "its certificate is signed by an authority that is not trusted: give the CA's certificate in"
         " external.caBundleRef"),
        ("good", "broken", "the bundle of external.caBundleRef holds something that is no certificate"),
    ],
)  # fmt: skip
async def test_each_refusal_has_one_sentence_in_probe_and_health(
    served: str, believed: str | None, sentence: str, ours: Authority, theirs: Authority, upstream: Any
) -> None:
    contexts: dict[str, ssl.SSLContext] = {
        "good": ours.server("good"),
        "expired": ours.server("expired", expired=True),
        "other name": ours.server("other", "DNS:other.test"),
        "self-signed": ours.self_signed()[0],
    }
    bundle = {"ours": ours.pem, "theirs": theirs.pem, "broken": BROKEN_DER, None: None}[believed]
    a = await upstream(says("ok"), tls=contexts[served])
    compiled = one(a.port, bundle)
    async with gateway(compiled) as g:
        for _ in range(5):
            assert (await chat(g.port)).status == 502
        assert set(g.meter.verdicts) == {("a", "Failure", "TlsFailed")}
        machine = g.machine("a")
        assert (machine.state, machine.reason, machine.message) == (State.UNHEALTHY, "TlsFailed", sentence)
        (reported,) = g.state.report_snapshot().backends
        assert (reported.state, reported.message) == ("Unhealthy", sentence)
    assert not a.seen, "no key and no prompt went out"
    found = await probed(compiled)
    assert (found.outcome, found.reason, found.message) == (ProbeOutcome.FAILED, "TlsFailed", sentence)


async def test_a_server_without_tls_is_told_from_one_that_is_not_believed(ours: Authority) -> None:
    sentence = "it does not speak TLS: does its url begin with http?"
    async with Engine({"/v1/models": Reply()}) as engine, gateway(one(engine.port, ours.pem)) as g:
        for _ in range(5):
            assert (await chat(g.port)).status == 502
        assert (g.machine("a").reason, g.machine("a").message) == ("TlsFailed", sentence)
        assert (await probed(one(engine.port, ours.pem))).message == sentence


async def test_without_its_bundle_a_backend_is_not_asked_and_the_report_says_why(
    ours: Authority, upstream: Any
) -> None:
    """Not even by the system's authorities: that would be weaker than what was asked for."""
    a, b = await upstream(says("a"), tls=ours.server("good")), await upstream(says("b"))
    backends = [
        external("a", f"https://127.0.0.1:{a.port}/v1", bundle="ca"), external("b", f"http://127.0.0.1:{b.port}/v1"),
    ]  # fmt: skip
    async with gateway(table(backends, [route("a", "b")])) as g:
        assert (await chat(g.port)).headers["x-pointsman-backend"] == "b"
        missing = next(b for b in g.state.report_snapshot().backends if b.name == "a")
        sentence = "ConfigMap ca does not exist: create it with the CA's certificate in PEM under ca.crt"
        assert (missing.state, missing.reason, missing.message) == ("Unknown", "CaBundleMissing", sentence)
        target = next(t for t in g.state.report_snapshot().routes[0].targets if t.backend == "a")
        assert (target.state, target.reason) == ("CaBundleMissing", f"LLMBackend a: {sentence}")
        g.state.set_table(table(backends, [route("a", "b")], bundles={"ca": ours.pem}))
        assert (await chat(g.port)).headers["x-pointsman-backend"] == "a"


async def test_another_bundle_means_other_connections(ours: Authority, theirs: Authority, upstream: Any) -> None:
    a = await upstream(says("ok"), tls=ours.server("good"))
    async with gateway(one(a.port, ours.pem)) as g:
        await chat(g.port)
        g.state.set_table(one(a.port, ours.pem + "\n# a remark\n"))
        await chat(g.port)
        assert a.connections == 1, "the same certificates in other words are the same"
        g.state.set_table(one(a.port, ours.pem + theirs.pem))
        assert (await chat(g.port)).status == 200
        assert a.connections == 2, "nothing goes over a connection that was believed by another bundle"
        g.state.set_table(one(a.port, theirs.pem))
        assert (await chat(g.port)).status == 502


async def test_the_right_bundle_brings_a_backend_back_at_once(ours: Authority, theirs: Authority) -> None:
    async with (
        Engine({"/v1/models": Reply()}, tls=ours.server("good")) as engine,
        gateway(one(engine.port, theirs.pem)) as g,
    ):
        prober = Prober(g.state)
        await prober.start()
        for _ in range(5):
            await chat(g.port)
        assert g.machine("a").state is State.UNHEALTHY
        g.state.set_table(one(engine.port, ours.pem))
        assert g.machine("a").state is State.UNKNOWN, "what was found with other authorities is void"
        await until(lambda: g.machine("a").state is State.HEALTHY, 2)
        await prober.close()


def test_the_authorities_of_the_system_are_not_added_to_a_bundle(ours: Authority) -> None:
    assert len(own_tls(Trust("1", ours.pem)).get_ca_certs()) == 1


def mutual(port: int, ours: Authority, shown: dict[str, str] | None) -> RoutingTable:
    """One External on that port that is shown what the Secret `us` holds."""
    backend = external("a", f"https://127.0.0.1:{port}/v1", bundle="ca", shown="us")
    secrets = {"us": SecretValue("1", shown)} if shown is not None else {}
    return table([backend], [route("a")], secrets=secrets, bundles={"ca": ours.pem})


@pytest.mark.parametrize("tls12", [False, True])
async def test_a_server_that_wants_to_know_us_is_shown_our_certificate(
    tls12: bool, ours: Authority, upstream: Any
) -> None:
    a = await upstream(says("ok"), tls=ours.wants_clients(tls12=tls12))
    us = ours.client("us")
    async with gateway(mutual(a.port, ours, us)) as g:
        assert (await chat(g.port)).status == 200
        assert us["tls.key"] not in repr(g.state.table)
        g.state.set_table(mutual(a.port, ours, ours.client("new")))
        assert (await chat(g.port)).status == 200
        assert a.connections == 2, "another certificate, other connections"
    async with Engine({"/v1/models": Reply()}, tls=ours.wants_clients(tls12=tls12)) as engine:
        assert (await probed(mutual(engine.port, ours, us))).outcome is ProbeOutcome.OK


@pytest.mark.parametrize("tls12", [False, True])
async def test_without_one_that_it_knows_nothing_is_answered(tls12: bool, ours: Authority, theirs: Authority) -> None:
    async with Engine({"/v1/models": Reply()}, tls=ours.wants_clients(tls12=tls12)) as engine:
        for compiled in (one(engine.port, ours.pem), mutual(engine.port, ours, theirs.client("us"))):
            assert (await probed(compiled)).outcome is ProbeOutcome.FAILED
            async with gateway(compiled) as g:
                assert (await chat(g.port)).status == 502
        assert not engine.asked


def test_an_alert_about_our_certificate_is_told() -> None:
    error = ssl.SSLError(1, "alert")
    error.reason = "TLSV13_ALERT_CERTIFICATE_REQUIRED"
    assert explain_tls(error, own_bundle=True).startswith("it refuses TLS without a client certificate")


async def test_a_client_certificate_that_cannot_be_used_is_said(
    ours: Authority, theirs: Authority, upstream: Any
) -> None:
    a = await upstream(says("ok"), tls=ours.wants_clients())
    mixed = {"tls.crt": ours.client("us")["tls.crt"], "tls.key": theirs.client("us")["tls.key"]}
    sentence = "the Secret of external.clientCertificateRef holds no certificate and key that belong together"
    async with gateway(mutual(a.port, ours, mixed)) as g:
        for _ in range(5):
            assert (await chat(g.port)).status == 502
        assert (g.machine("a").reason, g.machine("a").message) == ("TlsFailed", sentence)
    for held, words in (
        (None, "Secret us does not exist: create it with `kubectl create secret tls`"),
        ({"tls.crt": "x"}, "Secret us has no certificate in PEM under the key tls.crt"),
        ({"tls.crt": mixed["tls.crt"]}, "Secret us has no value under the key tls.key"),
    ):
        (broken,) = mutual(a.port, ours, held).routes["r"].broken
        assert (broken.problem.value, broken.message) == ("SecretMissing", f"LLMBackend a: {words}")
