"""Once content was sent nothing fails over: the client gets an error event and a clean end, never silence, never a
second answer."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from tests.support.raw_client import chat
from tests.support.running_gateway import SHORT, external, gateway, route, table
from tests.support.upstream import says

from pointsman.simulator.behaviour import Act, Behaviour, Pause, Raw, sends, streams
from pointsman.simulator.connection import Connection, Request
from pointsman.simulator.openai_bytes import ROLE, delta, event

FAULTS: dict[str, tuple[Behaviour, str, str]] = {
    "cut mid-content": (streams(ROLE, delta("one"), Act.CUT), "Failure", "Cut"),
    "reset mid-content": (streams(ROLE, delta("one"), Act.RESET), "Failure", "Cut"),
    "cut in a character": (
        streams(ROLE, delta("one"), Raw('data: {"choices":[{"delta":{"content":"ü'.encode()[:-1]), Act.CUT),
        "Failure",
        "Cut",
    ),
    "clean end mid-answer": (streams(ROLE, delta("one"), Act.END), "Failure", "Incomplete"),
    "DONE mid-answer": (streams(ROLE, delta("one"), b"[DONE]", Act.END), "Failure", "Incomplete"),
    "one choice open": (
        streams(delta("one"), delta("two", index=1), delta(finish="stop"), b"[DONE]", Act.END),
        "Failure",
        "Incomplete",
    ),
    "error event": (
        streams(ROLE, delta("one"), {"error": {"message": "secret 10.0.0.1"}}, Act.END),
        "Failure",
        "ErrorEvent",
    ),
    "malformed frame": (streams(ROLE, delta("one"), b"{broken", Act.END), "Failure", "BrokenStream"),
    "malformed chunk": (
        sends(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
            b'40\r\ndata: {"choices":[{"delta":{"content":"one"}}]}                  \n\n\r\nzz\r\n'
        ),
        "Failure",
        "BrokenHttp",
    ),
    "silence": (streams(ROLE, delta("one"), Act.SILENCE), "Stalled", "IdleTimeout"),
    "comments for ever": (
        streams(ROLE, delta("one"), *[Raw(b": ping\n\n"), Pause(0.05)] * 80),
        "Stalled",
        "IdleTimeout",
    ),
    "roles for ever": (streams(ROLE, delta("one"), *[ROLE, Pause(0.05)] * 80), "Stalled", "IdleTimeout"),
}


@pytest.mark.parametrize("name", FAULTS)
async def test_error_event_then_clean_end(name: str, upstream: Any) -> None:
    behave, verdict, why = FAULTS[name]
    bad, good = await upstream(behave), await upstream(says("second answer"))
    backends = [external("a", f"http://127.0.0.1:{bad.port}/v1"), external("b", f"http://127.0.0.1:{good.port}/v1")]
    times = SHORT if verdict == "Stalled" else {}
    async with gateway(table(backends, [route("a", "b", timeouts=times)])) as g:
        got = await chat(g.port, stream=True)
    assert got.status == 200
    assert got.whole, "the chunked body ends as it should"
    assert got.text.startswith("one")
    assert "[DONE]" not in got.events
    last = got.events[-1]
    assert last["error"]["type"] == "upstream_error"
    assert "secret" not in json.dumps(got.events)
    assert sum("error" in e for e in got.events) == 1
    assert g.meter.verdicts == [("a", verdict, why)]
    assert not good.seen


async def test_total_time_ends_a_stream_that_goes_on(upstream: Any) -> None:
    bad = await upstream(streams(ROLE, *[delta("x"), Pause(0.05)] * 200))
    r = route("a", timeouts={"total": "2s"})
    async with gateway(table([external("a", f"http://127.0.0.1:{bad.port}/v1")], [r])) as g:
        got = await chat(g.port, stream=True)
        assert got.whole
        assert got.events[-1]["error"]["code"] == "backend_total_timeout"
        assert g.meter.verdicts == [("a", "Cancelled", "TotalTimeout")]
        assert g.machine("a").state == "Unknown", "the request's own time is no fault of the backend's"


async def test_large_json_is_passed_on_and_broken_off(upstream: Any) -> None:
    start = b'{"choices":[{"message":{"content":"' + b"a" * 9_000_000
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9999999\r\n\r\n"
    bad = await upstream(sends(head, start, Act.CUT))
    async with gateway(table([external("a", f"http://127.0.0.1:{bad.port}/v1")], [route("a")])) as g:
        got = await chat(g.port)
        assert got.status == 200
        assert not got.whole, "a client must not take it for a whole answer"
        assert g.meter.verdicts == [("a", "Failure", "Cut")]


async def test_large_json_passes_whole(upstream: Any) -> None:
    body = b'{"choices":[{"message":{"content":"' + b"a" * 9_000_000 + b'"},"finish_reason":"stop"}]}'
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
    good = await upstream(sends(head, body))
    async with gateway(table([external("a", f"http://127.0.0.1:{good.port}/v1")], [route("a")])) as g:
        got = await chat(g.port)
        assert got.whole
        assert got.body == body
        assert g.meter.verdicts == [("a", "Success", "Answered")]


async def test_each_frame_comes_at_once(upstream: Any) -> None:
    """A token waits for nothing but itself."""
    from tests.support.raw_client import chat_body, chat_request, connected

    released = asyncio.Event()

    async def behave(connection: Connection, request: Request) -> None:
        await connection.open_stream()
        await connection.chunk(event(ROLE))
        await connection.chunk(event(delta("first")))
        await released.wait()
        await connection.chunk(event(delta("second", finish="stop")))
        await connection.chunk(event(b"[DONE]"))
        await connection.end_stream()

    a = await upstream(behave)
    async with (
        gateway(table([external("a", f"http://127.0.0.1:{a.port}/v1")], [route("a")])) as g,
        connected(g.port) as c,
    ):
        await c.send(chat_request(chat_body(stream=True)))
        head = await c.receive(head_only=True)
        assert head.headers["transfer-encoding"] == "chunked"
        data = await asyncio.wait_for(c.reader.readuntil(b"first"), 15)
        assert b"second" not in data
        released.set()
        rest = await c.reader.readuntil(b"0\r\n\r\n")
        assert b"second" in rest
