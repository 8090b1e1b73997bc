"""What goes to backends, byte for byte, and how connections to them are used again."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import subprocess
from pathlib import Path
from typing import Any

import openai
import pytest
from tests.support.engine import until
from tests.support.raw_client import chat, chat_body, chat_request, connected
from tests.support.running_gateway import external, gateway, route, table
from tests.support.upstream import says

from pointsman.domain.table import SecretValue
from pointsman.gateway.upstream.trust import default_tls
from pointsman.simulator.behaviour import Act, Pause, answers, sends, streams
from pointsman.simulator.connection import Connection, Request
from pointsman.simulator.openai_bytes import ROLE, USAGE_FRAME, completion, delta, error

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"


def at(name: str, one: Any, **how: Any) -> Any:
    return external(name, f"http://127.0.0.1:{one.port}/v1", **how)


async def send(port: int, body: bytes, *headers: str) -> Any:
    async with connected(port) as client:
        await client.send(chat_request(body, *headers))
        return await client.receive()


# ---- the request upstream


async def test_only_the_model_changes(upstream: Any) -> None:
    a = await upstream(says("ok"))
    body = (
        b'{ "messages":[{"role":"user","content":"\\u00e9 \\"model\\": x"}],\t"x-unknown" : [1.50, {"model":"keep"}],'
        b'\n "model" : "chat" , "n":1}'
    )
    async with gateway(table([at("a", a)], [route("a")])) as g:
        assert (await send(g.port, body)).status == 200
    assert a.seen[0].body == body.replace(b'"chat"', b'"m"')


async def test_headers_pass_by_an_allow_list(upstream: Any) -> None:
    a = await upstream(
        answers(200, completion("ok"), "application/json", "set-cookie: s=1", "x-upstream: secret", "server: nginx")
    )
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    secrets = {"key": SecretValue("1", {"api-key": "sk-backend"})}
    sent = [
        "authorization: Bearer sk-client", "cookie: session=1", "x-api-key: sk-client", "openai-organization: org",
        "x-forwarded-for: 10.0.0.1", f"traceparent: {trace}", "tracestate: a=b", "x-request-id: mine-1",
        "accept-encoding: gzip, br", "connection: keep-alive, x-hop", "x-hop: 1",
    ]  # fmt: skip
    async with gateway(table([at("a", a, secret="key")], [route("a")], secrets=secrets)) as g:
        got = await chat(g.port, *sent)
    seen = a.seen[0].headers
    assert seen == {
        "host": f"127.0.0.1:{a.port}",
        "content-type": "application/json",
        "accept": "application/json",
        "accept-encoding": "identity",
        "user-agent": seen["user-agent"],
        "authorization": "Bearer sk-backend",
        "content-length": str(len(a.seen[0].body)),
        "x-request-id": "mine-1",
        "traceparent": trace,
        "tracestate": "a=b",
    }
    assert got.headers["x-request-id"] == "mine-1"
    assert not {"set-cookie", "x-upstream", "server"} & set(got.headers)


async def test_odd_request_ids_are_replaced(upstream: Any) -> None:
    a = await upstream(says("ok"))
    async with gateway(table([at("a", a)], [route("a")])) as g:
        got = await chat(g.port, "x-request-id: a b\tc", "traceparent: nonsense")
        other = await chat(g.port)
    assert re.fullmatch(r"req-[0-9a-f]+-[0-9a-f]+", got.headers["x-request-id"])
    assert got.headers["x-request-id"] != other.headers["x-request-id"]
    assert a.seen[0].headers["x-request-id"] == got.headers["x-request-id"]
    assert "traceparent" not in a.seen[0].headers


async def test_provenance_headers(upstream: Any) -> None:
    slow = await upstream(
        sends(Pause(0.5), HEAD + b"content-length: %d\r\n\r\n%b" % (len(completion("ok")), completion("ok")))
    )
    async with gateway(table([at("a", slow)], [route("a")])) as g:
        got = await chat(g.port)
    assert {k: got.headers[k] for k in ("x-pointsman-backend", "x-pointsman-model", "x-pointsman-attempts")} == {
        "x-pointsman-backend": "a", "x-pointsman-model": "m", "x-pointsman-attempts": "1",
    }  # fmt: skip
    assert 0 < int(got.headers["x-pointsman-overhead-us"]) < 500_000, "waiting for the backend is not our overhead"


# ---- usage


async def test_usage_is_asked_for_and_hidden(upstream: Any) -> None:
    a = await upstream(says("ok"))
    async with gateway(table([at("a", a)], [route("a")])) as g:
        got = await chat(g.port, stream=True)
        assert a.seen[0].json["stream_options"] == {"include_usage": True}
        assert all(e == "[DONE]" or e["choices"] for e in got.events)
        assert (g.meter.requests[0].prompt_tokens, g.meter.requests[0].completion_tokens) == (7, 5)
        got = await chat(g.port, stream=True, stream_options={"include_usage": True})
        assert got.events[-2]["usage"] == USAGE_FRAME["usage"]
        got = await chat(g.port, stream=True, stream_options={"include_usage": False, "x": 1})
        assert a.seen[2].json["stream_options"] == {"include_usage": True, "x": 1}
        assert all(e == "[DONE]" or e["choices"] for e in got.events)
        await chat(g.port)
        assert "stream_options" not in a.seen[3].json


async def test_unknown_usage_is_never_zero(upstream: Any) -> None:
    a = await upstream(streams(ROLE, delta("x", finish="stop"), b"[DONE]", Act.END))
    async with gateway(table([at("a", a)], [route("a")])) as g:
        await chat(g.port, stream=True)
        assert g.meter.requests[0].prompt_tokens is None


async def test_field_that_we_added_is_taken_back_and_remembered(upstream: Any) -> None:
    async def behave(connection: Connection, request: Request) -> None:
        if "stream_options" in request.json:
            await connection.answer(400, error("Unrecognized request argument supplied: stream_options"))
        else:
            await says("ok")(connection, request)

    a, b = await upstream(behave), await upstream(says("no"))
    async with gateway(table([at("a", a), at("b", b)], [route("a", "b")])) as g:
        for _ in range(3):
            got = await chat(g.port, stream=True)
            assert got.headers["x-pointsman-backend"] == "a"
            assert got.headers["x-pointsman-attempts"] == "1"
    assert ["stream_options" in s.json for s in a.seen] == [True, False, False, False]


async def test_field_of_the_clients_own_stays_its_fault(upstream: Any) -> None:
    a = await upstream(answers(400, error("stream_options is not allowed")))
    async with gateway(table([at("a", a)], [route("a")])) as g:
        got = await chat(g.port, stream=True, stream_options={"include_usage": True})
    assert got.status == 400
    assert len(a.seen) == 1


# ---- connections


async def test_connections_are_used_again(upstream: Any) -> None:
    a = await upstream(says("ok"))
    async with gateway(table([at("a", a)], [route("a")])) as g:
        for n in range(20):
            assert (await chat(g.port, stream=n % 2 == 0)).status == 200
    assert a.connections == 1


@pytest.mark.parametrize("how", ["residue", "bytes while idle", "connection: close", "until close"])
async def test_connections_with_anything_left_are_not(how: str, upstream: Any) -> None:
    body = completion("ok")
    whole = HEAD + b"content-length: %d\r\n" % len(body)
    behave = {
        "residue": sends(whole + b"\r\n" + body + b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"),
        "bytes while idle": sends(
            whole + b"\r\n" + body, Pause(0.05), b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
        ),
        "connection: close": sends(whole + b"connection: close\r\n\r\n" + body),
        "until close": sends(HEAD + b"\r\n" + body, Act.CUT),
    }[how]
    a = await upstream(behave)
    async with gateway(table([at("a", a)], [route("a")])) as g:
        for _ in range(3):
            got = await chat(g.port)
            assert got.json["choices"], "never an answer to another's question"
            await until(lambda: a.talking == 0, what="the end of the connection")
        assert {v[1] for v in g.meter.verdicts} == {"Success"}
    assert a.connections == 3


async def test_stale_pooled_connection_is_dialled_once_more(upstream: Any) -> None:
    async def behave(connection: Connection, request: Request) -> None:
        if connection.number == 1 and len(a.seen) == 2:
            connection.reset()  # exactly as it is used again
        else:
            await says("ok")(connection, request)

    a, b = await upstream(behave), await upstream(says("no"))
    async with gateway(table([at("a", a), at("b", b)], [route("a", "b")])) as g:
        for _ in range(2):
            got = await chat(g.port)
            assert got.headers["x-pointsman-backend"] == "a"
            assert got.headers["x-pointsman-attempts"] == "1"
        assert {v[1] for v in g.meter.verdicts} == {"Success"}
    assert a.connections == 2
    assert not b.seen


async def test_a_fresh_connection_is_not(upstream: Any) -> None:
    a, b = await upstream(sends(Act.RESET)), await upstream(says("ok"))
    async with gateway(table([at("a", a), at("b", b)], [route("a", "b")])) as g:
        await chat(g.port)
    assert len(a.seen) == 1


async def test_restart_of_a_backend_loses_nothing(upstream: Any) -> None:
    a, b = await upstream(says("ok")), await upstream(says("b"))
    async with gateway(table([at("a", a), at("b", b)], [route("a", "b")])) as g:
        assert (await chat(g.port)).status == 200
        await a.stop()
        assert (await chat(g.port)).headers["x-pointsman-backend"] == "b"


async def test_answer_before_the_body_was_sent(upstream: Any) -> None:
    """The backend says no without reading, and closes."""
    judged = asyncio.Event()

    async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        text = error("too large")
        writer.write(b"HTTP/1.1 413 X\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b" % (len(text), text))
        await writer.drain()
        await judged.wait()  # what arrived after a reset could not be read any more
        writer.close()

    server = await asyncio.start_server(early, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    b = await upstream(says("ok"))
    backends = [external("a", f"http://127.0.0.1:{port}/v1"), at("b", b)]
    async with gateway(table(backends, [route("a", "b")])) as g:
        got = await chat(g.port, padding="x" * 8_000_000)
        judged.set()
        assert got.headers["x-pointsman-backend"] == "b"
        assert g.meter.verdicts[0] == ("a", "Unfit", "TooLarge")
    server.close()


async def test_large_body_goes_to_each_attempt_whole(upstream: Any) -> None:
    a, b = await upstream(answers(500, error("x"))), await upstream(says("ok"))
    async with gateway(table([at("a", a), at("b", b)], [route("a", "b")])) as g:
        got = await chat(g.port, padding="ü" * 5_000_000)
    assert got.status == 200
    assert len(a.seen[0].body) == len(b.seen[0].body) > 10_000_000
    json.loads(b.seen[0].body)


# ---- names and TLS


async def test_dns_failure_costs_no_attempt(upstream: Any) -> None:
    b = await upstream(says("ok"))
    backends = [external("a", "http://no-such-name.invalid:80/v1"), at("b", b)]
    async with gateway(table(backends, [route("a", "b", maxAttempts=1)])) as g:
        got = await chat(g.port)
        assert got.headers["x-pointsman-backend"] == "b"
        assert g.meter.verdicts[0] == ("a", "Failure", "DnsFailed")


async def test_stale_dns_answer_serves_when_the_resolver_is_gone(upstream: Any) -> None:
    a = await upstream(answers(200, completion("ok"), "application/json", "connection: close"))
    asked: list[str] = []

    async def lookup(host: str) -> tuple[str, ...]:
        asked.append(host)
        if len(asked) > 1:
            raise OSError("no resolver")
        return ("127.0.0.9", "127.0.0.1")

    backends = [external("a", f"http://engine.test:{a.port}/v1")]
    async with gateway(table(backends, [route("a")])) as g:
        resolver = g.server.path.dialer.resolver
        resolver.lookup = lookup
        resolver.fresh_seconds = 0
        for _ in range(4):
            assert (await chat(g.port)).status == 200, "every address is tried, and the last answer is kept"
        assert len(asked) >= 3
    assert a.seen[0].headers["host"] == f"engine.test:{a.port}"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ca.pem; good.pem for engine.test and 127.0.0.1; expired.pem; other.pem of another name."""
    folder = tmp_path_factory.mktemp("tls")

    def run(*args: str) -> None:
        subprocess.run(["openssl", *args], cwd=folder, check=True, capture_output=True)

    run(
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
        "-keyout",
        "ca.key",
        "-out",
        "ca.pem",
        "-subj",
        "/CN=test ca",
    )
    for name, alt, dates in (
        ("good", "DNS:engine.test,IP:127.0.0.1", []),
        (
            "expired",
            "DNS:engine.test,IP:127.0.0.1",
            ["-not_before", "20200101000000Z", "-not_after", "20200102000000Z"],
        ),
        ("other", "DNS:other.test", []),
    ):
        run(
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-keyout",
            f"{name}.key",
            "-out",
            f"{name}.csr",
            "-subj",
            f"/CN={name}",
        )
        (folder / f"{name}.ext").write_text(f"subjectAltName={alt}\n")
        args = [
            "x509",
            "-req",
            "-in",
            f"{name}.csr",
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-out",
            f"{name}.pem",
            "-extfile",
            f"{name}.ext",
        ]
        try:
            run(*args, *(dates or ["-days", "2"]))
        except subprocess.CalledProcessError:
            run(*args, "-days", "-1")
    return folder


@pytest.mark.parametrize(
    ("name", "served"), [("good", True), ("expired", False), ("other", False), ("untrusted", False)]
)
async def test_tls_is_verified(name: str, served: bool, certificates: Path, upstream: Any) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    file = "good" if name == "untrusted" else name
    context.load_cert_chain(certificates / f"{file}.pem", certificates / f"{file}.key")
    a = await upstream(says("ok"), tls=context)

    def tls() -> ssl.SSLContext:
        made = default_tls()
        if name != "untrusted":
            made.load_verify_locations(certificates / "ca.pem")
        return made

    backends = [external("a", f"https://127.0.0.1:{a.port}/v1")]
    async with gateway(table(backends, [route("a")]), tls=tls) as g:
        for stream in (False, True):
            got = await chat(g.port, stream=stream)
            assert got.status == (200 if served else 502), got.body
        if served:
            assert a.connections == 1
        else:
            assert g.meter.verdicts[0] == ("a", "Failure", "TlsFailed")
            assert not a.seen


# ---- an unmodified client


async def test_openai_client_through_a_fallback(upstream: Any) -> None:
    bad, good = await upstream(answers(500, error("boom"))), await upstream(says("all is well"))
    async with gateway(table([at("a", bad), at("b", good)], [route("a", "b")])) as g:
        client = openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{g.port}/v1", api_key="x", max_retries=0)
        messages: Any = [{"role": "user", "content": "hi"}]
        answer = await client.chat.completions.create(model="chat", messages=messages)
        assert answer.choices[0].message.content == "all is well"
        stream = await client.chat.completions.create(model="chat", messages=messages, stream=True)
        words = [c.choices[0].delta.content or "" async for c in stream]
        assert "".join(words) == "all is well"
        assert [m.id async for m in client.models.list()] == ["chat"]
        assert (await client.models.retrieve("chat")).id == "chat"
        with pytest.raises(openai.NotFoundError) as unknown:
            await client.chat.completions.create(model="nope", messages=messages)
        assert unknown.value.code == "model_not_found"
        await client.close()


async def test_openai_client_sees_a_broken_stream_as_an_error(upstream: Any) -> None:
    bad = await upstream(streams(ROLE, delta("one"), Act.CUT))
    async with gateway(table([at("a", bad)], [route("a")])) as g:
        client = openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{g.port}/v1", api_key="x", max_retries=0)
        stream = await client.chat.completions.create(
            model="chat", messages=[{"role": "user", "content": "hi"}], stream=True
        )
        with pytest.raises(openai.APIError, match="cut short"):
            async for _ in stream:
                pass
        await client.close()


async def test_body_without_content_type_and_with_long_model_name(upstream: Any) -> None:
    a = await upstream(says("ok"))
    async with gateway(table([at("a", a)], [route("a")])) as g:
        body = chat_body(padding="p" * 40_000)
        assert (await send(g.port, body)).status == 200
    assert a.seen[0].body == body.replace(b'"chat"', b'"m"')
