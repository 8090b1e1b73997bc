"""What clients may send, and what they get for it; how they leave; how slow they may be."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from tests.support.engine import until
from tests.support.raw_client import chat, chat_body, chat_request, connected
from tests.support.running_gateway import external, gateway, route, table
from tests.support.upstream import says

from pointsman.gateway.limits import Limits
from pointsman.simulator.behaviour import Act, Pause, streams
from pointsman.simulator.connection import Connection, Request
from pointsman.simulator.openai_bytes import ROLE, completion, delta, event

SMALL = Limits(head_bytes=4096, body_bytes=100_000, head_seconds=60, linger_seconds=10)
HASTY = Limits(head_seconds=0.2, body_seconds=0.2, keep_alive_seconds=0.5, linger_seconds=10)
"""For clients that are to be too slow."""
GOOD = chat_body()
HOST = b"host: g\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n\r\n"
LINE = b"POST /v1/chat/completions HTTP/1.1\r\n"

BAD: dict[str, tuple[bytes, int, str]] = {
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01", 400, "malformed_http"),
    "bad method": (b"BREW / HTTP/1.1\r\n\r\n", 400, "malformed_http"),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "malformed_http"),
    "bare CR": (LINE + b"host: g\rx: y\r\n\r\n", 400, "malformed_http"),
    "obs-fold": (LINE + HOST + b"x-a: b\r\n  c\r\ncontent-length: 2\r\n\r\n{}", 400, "malformed_http"),
    "space before colon": (LINE + b"host : g\r\n\r\n", 400, "malformed_http"),
    "NUL in a header": (LINE + b"host: g\x00\r\n\r\n", 400, "malformed_http"),
    "no host": (LINE + b"content-length: 2\r\n\r\n{}", 400, "missing_host"),
    "host twice": (LINE + HOST + HOST + b"content-length: 2\r\n\r\n{}", 400, "duplicate_header"),
    "content-length twice": (LINE + HOST + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}", 400, "malformed_http"),
    "content-length is no number": (LINE + HOST + b"content-length: two\r\n\r\n{}", 400, "malformed_http"),
    "negative content-length": (LINE + HOST + b"content-length: -1\r\n\r\n{}", 400, "malformed_http"),
    "both lengths": (LINE + HOST + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400, ""),
    "both lengths, other order": (
        LINE + HOST + b"transfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n0\r\n\r\n",
        400,
        "",
    ),
    "gzip, chunked": (LINE + HOST + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400, "unknown_encoding"),
    "bad chunk": (LINE + HOST + b"transfer-encoding: chunked\r\n\r\nzz\r\n", 400, "malformed_http"),
    "body too large": (LINE + HOST + b"content-length: 100001\r\n\r\n", 413, "body_too_large"),
    "chunked body too large": (
        LINE + HOST + CHUNKED + b"8000\r\n" + b"a" * 0x8000 + b"\r\nFFFFF\r\n" + b"a" * 90_000,
        413,
        "body_too_large",
    ),
    "headers too large": (LINE + HOST + b"x: " + b"a" * 5000, 431, "headers_too_large"),
    "too many headers": (LINE + HOST + b"x: a\r\n" * 1500, 431, "headers_too_large"),
    "url too large": (b"GET /" + b"a" * 5000, 431, "headers_too_large"),
    "unknown Expect": (LINE + HOST + b"expect: tea\r\ncontent-length: 2\r\n\r\n", 417, "unknown_expect"),
    "compressed body": (chat_request(GOOD, "content-encoding: gzip"), 415, "unsupported_encoding"),
    "empty body": (LINE + HOST + b"content-length: 0\r\n\r\n", 400, "invalid_json"),
    "no JSON": (chat_request(b"hello"), 400, "invalid_json"),
    "cut JSON": (chat_request(GOOD[:-1]), 400, "invalid_json"),
    "an array": (chat_request(b"[]"), 400, "invalid_json"),
    "deep JSON": (chat_request(b'{"model":"chat","x":' + b"[" * 40_000), 400, "invalid_json"),
    "no model": (chat_request(b"{}"), 400, "missing_model"),
    "model is a number": (chat_request(b'{"model": 1}'), 400, "invalid_type"),
    "model twice": (chat_request(b'{"model":"chat","model":"chat"}'), 400, "duplicate_key"),
    "model twice, once escaped": (chat_request(b'{"model":"chat","\\u006dodel":"chat"}'), 400, "duplicate_key"),
    "stream twice": (chat_request(b'{"model":"chat","stream":false,"stream":true}'), 400, "duplicate_key"),
    "stream is a word": (chat_request(b'{"model":"chat","stream":"yes"}'), 400, "invalid_type"),
    "unknown model": (chat_request(chat_body("nope")), 404, "model_not_found"),
    "unknown path": (b"GET /v1/nothing HTTP/1.1\r\nhost: g\r\n\r\n", 404, "unknown_url"),
    "wrong method": (b"PUT /v1/chat/completions HTTP/1.1\r\nhost: g\r\n\r\n", 405, "method_not_supported"),
    "wrong method for models": (b"DELETE /v1/models HTTP/1.1\r\nhost: g\r\n\r\n", 405, "method_not_supported"),
    "CONNECT": (b"CONNECT example.com:443 HTTP/1.1\r\nhost: example.com:443\r\n\r\n", 404, "unknown_url"),
}


@pytest.fixture
async def g(upstream: Any) -> Any:
    good = await upstream(says("ok"))
    async with gateway(
        table([external("a", f"http://127.0.0.1:{good.port}/v1")], [route("a")]), limits=SMALL
    ) as running:
        running.backend = good
        yield running


@pytest.fixture
async def hasty(upstream: Any) -> Any:
    good = await upstream(says("ok"))
    compiled = table([external("a", f"http://127.0.0.1:{good.port}/v1")], [route("a")])
    async with gateway(compiled, limits=HASTY) as running:
        yield running


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("dripping", [False, True], ids=["at-once", "dripping"])
async def test_bad_request_gets_one_clear_answer(name: str, dripping: bool, g: Any) -> None:
    data, status, code = BAD[name]
    async with connected(g.port) as client:
        if dripping:
            step = max(1, len(data) // 50)
            for n in range(0, len(data), step):
                await client.send(data[n : n + step])
                await asyncio.sleep(0)
        else:
            await client.send(data)
        got = await client.receive()
        assert got.status == status, got.body
        assert set(got.json["error"]) == {"message", "type", "param", "code"}
        assert got.json["error"]["type"] == "invalid_request_error"
        assert code in (got.json["error"]["code"], "")
        assert "x-request-id" in got.headers
        if "connection" in got.headers:
            assert await client.closed()
        else:
            await client.send(chat_request(GOOD))
            assert (await client.receive()).status == 200
    assert all(s.json for s in g.backend.seen)


async def test_unknown_model_lists_what_exists(g: Any) -> None:
    got = await chat(g.port, model="nope")
    assert "there are: chat" in got.message
    assert got.json["error"]["param"] == "model"


async def test_slow_loris_is_shown_the_door(hasty: Any) -> None:
    async with connected(hasty.port) as client:
        await client.send(b"POST /v1/chat")
        answer = asyncio.create_task(client.receive())
        while not answer.done():
            await asyncio.sleep(0.02)
            await client.send(b"x")
        assert answer.result().status == 408
        assert await client.closed()


async def test_body_that_stops_coming(hasty: Any) -> None:
    async with connected(hasty.port) as client:
        await client.send(chat_request(GOOD)[:-5])
        assert (await client.receive()).status == 408


async def test_idle_connection_is_closed(hasty: Any) -> None:
    async with connected(hasty.port) as client:
        await client.send(chat_request(GOOD))
        await client.receive()
        assert await asyncio.wait_for(client.closed(), 30)


async def test_pipelined_requests_are_answered_in_order(g: Any) -> None:
    async with connected(g.port) as client:
        models = b"GET /v1/models HTTP/1.1\r\nhost: g\r\n\r\n"
        ids = [f"id-{n}" for n in range(60)]
        await client.send(b"".join(chat_request(GOOD, f"x-request-id: {i}") + models for i in ids))
        for i in ids:
            assert (await client.receive()).headers["x-request-id"] == i
            assert (await client.receive()).json["object"] == "list"


async def test_pipelined_garbage_after_a_good_request(g: Any) -> None:
    async with connected(g.port) as client:
        await client.send(chat_request(GOOD) + b"\x00garbage\r\n\r\n")
        assert (await client.receive()).status == 200
        assert (await client.receive()).status == 400
        assert await client.closed()


async def test_many_small_requests_in_one_large_write(g: Any) -> None:
    """More than the header limit at once is no large header."""
    models = b"GET /v1/models HTTP/1.1\r\nhost: g\r\n\r\n"
    async with connected(g.port) as client:
        await client.send(models * 1000)
        for _ in range(1000):
            assert (await client.receive()).status == 200


@pytest.mark.parametrize("dripping", [False, True], ids=["at-once", "dripping"])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
async def test_upgrade_is_ignored_safely(chunked: bool, dripping: bool, g: Any) -> None:
    """Java's client offers h2c with its first request, body and all."""
    offer = ("connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AAMAAABkAAQ")
    request = chat_request(GOOD, *offer)
    if chunked:
        lines = "".join(f"{line}\r\n" for line in ("transfer-encoding: chunked", *offer)).encode()
        request = LINE + HOST + lines + b"\r\n" + b"%x\r\n%b\r\n0\r\n\r\n" % (len(GOOD), GOOD)
    async with connected(g.port) as client:
        for _ in range(3):
            for piece in [bytes([b]) for b in request] if dripping else [request]:
                await client.send(piece)
            got = await client.receive()
            assert got.status == 200, got.body
            assert got.json["choices"]
        await client.send((b"GET /v1/models HTTP/1.1\r\nhost: g\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n") * 100)
        for _ in range(100):
            assert (await client.receive()).status == 200
    assert [s.body for s in g.backend.seen] == [s.body for s in g.backend.seen[:1]] * 3


async def test_expect_100_continue(g: Any) -> None:
    request = chat_request(GOOD, "expect: 100-continue")
    async with connected(g.port) as client:
        await client.send(request[: -len(GOOD)])
        assert (await client.receive()).status == 100
        await client.send(GOOD)
        assert (await client.receive()).status == 200


async def test_too_large_is_said_before_100_continue(g: Any) -> None:
    async with connected(g.port) as client:
        await client.send(LINE + HOST + b"expect: 100-continue\r\ncontent-length: 200000\r\n\r\n")
        assert (await client.receive()).status == 413


async def test_client_that_is_refused_can_read_why(upstream: Any) -> None:
    """An answer must survive the bytes that the client still sends."""
    async with gateway(table([], []), limits=SMALL) as g, connected(g.port) as client:
        await client.send(LINE + HOST + b"content-length: 50000000\r\n\r\n")
        answer = asyncio.create_task(client.receive())
        while not answer.done():
            await client.send(b"a" * 100_000)
            await asyncio.sleep(0.001)
        assert answer.result().status == 413
        await client.send(b"a" * 100_000)
        assert await client.closed()


@pytest.mark.parametrize("stream", [False, True])
async def test_http10_client(stream: bool, g: Any) -> None:
    async with connected(g.port) as client:
        await client.send(chat_request(chat_body(stream=stream), version="1.0"))
        got = await client.receive()
        assert got.status == 200
        assert "transfer-encoding" not in got.headers
        assert await client.closed()
        if stream:
            assert got.events[-1] == "[DONE]"


async def test_chunked_request_body(g: Any) -> None:
    async with connected(g.port) as client:
        await client.send(
            LINE
            + HOST
            + b"transfer-encoding: chunked\r\n\r\n"
            + b"".join(b"1\r\n%c\r\n" % b for b in GOOD)
            + b"0\r\n\r\n"
        )
        assert (await client.receive()).status == 200


async def test_head_and_models(g: Any) -> None:
    async with connected(g.port) as client:
        await client.send(b"GET /v1/models/chat HTTP/1.1\r\nhost: g\r\n\r\n")
        assert (await client.receive()).json["id"] == "chat"
        await client.send(b"HEAD /v1/models?limit=2 HTTP/1.1\r\nhost: g\r\n\r\n")
        assert int((await client.receive(head_only=True)).headers["content-length"]) > 50
        await client.send(b"GET /v1/models/no%2Fsuch HTTP/1.1\r\nhost: g\r\n\r\n")
        got = await client.receive()
        assert got.status == 404
        assert "'no/such'" in got.message


# ---- leaving


async def test_client_leaves_before_content(upstream: Any) -> None:
    await _leaves(upstream, streams(ROLE, Act.SILENCE), wait_for=b"")


async def test_client_leaves_before_headers(upstream: Any) -> None:
    async def behave(connection: Connection, request: Request) -> None:
        await connection.silence()

    await _leaves(upstream, behave, wait_for=b"")


async def test_client_leaves_in_the_middle(upstream: Any) -> None:
    await _leaves(upstream, streams(ROLE, delta("one"), Act.SILENCE), wait_for=b"one")


async def _leaves(upstream: Any, behave: Any, wait_for: bytes) -> None:
    ended = asyncio.Event()

    async def watched(connection: Connection, request: Request) -> None:
        try:
            await behave(connection, request)
        finally:
            ended.set()

    a, b = await upstream(watched), await upstream(says("no"))
    backends = [external(n, f"http://127.0.0.1:{u.port}/v1") for n, u in (("a", a), ("b", b))]
    async with gateway(table(backends, [route("a", "b")])) as g:
        async with connected(g.port) as client:
            await client.send(chat_request(chat_body(stream=True)))
            if wait_for:
                await client.reader.readuntil(wait_for)
            else:
                await a.asked()
        await asyncio.wait_for(ended.wait(), 10)
        await asyncio.wait_for(g.meter.finished.wait(), 10)
        assert g.meter.verdicts == [("a", "Cancelled", "ClientGone")]
        assert g.machine("a").state == "Unknown"
        assert g.machine("a").in_flight == 0
        assert g.meter.requests[0].status == 499
        assert not b.seen


async def test_client_leaves_while_dialing(upstream: Any) -> None:
    """192.0.2.0/24 is never routed: the dial hangs or fails, as the machine likes."""
    backends = [external("a", "http://192.0.2.1:9/v1")]
    async with gateway(table(backends, [route("a", timeouts={"connect": "30s"})])) as g:
        async with connected(g.port) as client:
            await client.send(chat_request(GOOD))
            await until(lambda: g.machine("a").in_flight or g.meter.requests)
        await asyncio.wait_for(g.meter.finished.wait(), 15)
        assert g.machine("a").in_flight == 0


# ---- slowness


async def test_slow_client_holds_its_backend_back_with_bounded_memory(upstream: Any) -> None:
    sent = 0
    big = "x" * 60_000

    async def behave(connection: Connection, request: Request) -> None:
        nonlocal sent
        await connection.open_stream()
        for _ in range(600):
            await connection.chunk(event(delta(big)))
            sent += 1
        await connection.chunk(event(delta(finish="stop")))
        await connection.chunk(event(b"[DONE]"))
        await connection.end_stream()

    a = await upstream(behave)
    slow = {"idle": "1s", "total": "100s"}
    async with (
        gateway(table([external("a", f"http://127.0.0.1:{a.port}/v1")], [route("a", timeouts=slow)])) as g,
        connected(g.port) as client,
    ):
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await client.send(chat_request(chat_body(stream=True)))
        await asyncio.sleep(2)
        held = sent
        assert held < 400, "the backend was not held back"
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        got = await client.receive()
        assert got.whole
        assert len(got.text) == 600 * len(big)
        assert g.meter.verdicts == [("a", "Success", "Answered")], "a slow client is no idle backend"


async def test_requests_beyond_the_memory_for_bodies(upstream: Any) -> None:
    limits = Limits(bodies_bytes=50_000)
    async with gateway(table([], []), limits=limits) as g, connected(g.port) as one, connected(g.port) as two:
        head = LINE + HOST + b"content-length: 90000\r\n\r\n"
        await one.send(head + b"a" * 30_000)
        await until(lambda: g.server.path.bodies >= 30_000)
        await two.send(head + b"a" * 30_000)
        got = await two.receive()
        assert got.status == 503
        assert got.json["error"]["code"] == "overloaded"
        one.writer.close()
        await until(lambda: g.server.path.bodies == 0)


# ---- the end


async def test_drain_lets_streams_finish(upstream: Any) -> None:
    a = await upstream(streams(ROLE, delta("one"), Pause(0.2), delta("two", finish="stop"), b"[DONE]", Act.END))
    async with (
        gateway(table([external("a", f"http://127.0.0.1:{a.port}/v1")], [route("a")])) as g,
        connected(g.port) as idle,
        connected(g.port) as busy,
    ):
        await busy.send(chat_request(chat_body(stream=True)))
        await busy.reader.readuntil(b"one")
        draining = asyncio.create_task(g.server.drain(60))
        assert await asyncio.wait_for(idle.closed(), 30)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", g.port)
        rest = await busy.reader.read()
        assert b"two" in rest
        assert rest.endswith(b"0\r\n\r\n")
        assert await draining


async def test_answers_while_draining_end_the_connection(g: Any) -> None:
    async with connected(g.port) as client:
        await client.send(chat_request(GOOD))
        await client.receive()
        g.server.leave()
        await client.send(chat_request(GOOD))
        got = await client.receive()
        assert (got.status, got.headers["connection"]) == (200, "close")
        assert await client.closed()


async def test_drain_gives_up_in_time(upstream: Any) -> None:
    a = await upstream(streams(ROLE, delta("one"), Act.SILENCE))
    async with (
        gateway(table([external("a", f"http://127.0.0.1:{a.port}/v1")], [route("a")])) as g,
        connected(g.port) as c,
    ):
        await c.send(chat_request(chat_body(stream=True)))
        await c.reader.readuntil(b"one")
        assert not await g.server.drain(0.1)


def test_completion_is_json() -> None:
    assert json.loads(completion("x"))["choices"]
