"""Faults of the connection and of HTTP/1.1 itself: what the first backend does to the wire. Data only."""

from __future__ import annotations

import gzip

from pointsman.conform.scenario import Down, Right, Scenario
from pointsman.simulator.behaviour import Act, Behaviour, Pause, framed, says, sends
from pointsman.simulator.connection import Connection, Request
from pointsman.simulator.openai_bytes import completion

JSON = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
SSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n\r\n"
STRANGER = (
    b'{"choices":[{"index":0,"message":{"role":"assistant","content":"of somebody else"},"finish_reason":"stop"}]}'
)

WIRE = "Connection"
FORM = "Odd but whole"


def both(name: str, behave: Behaviour, why: str, group: str = WIRE, right: Right = Right.FALLBACK) -> list[Scenario]:
    """As JSON and as a stream."""
    return [Scenario(f"{name} ({kind})", group, right, why, (behave,), stream=kind == "stream") for kind in KINDS]


KINDS = ("json", "stream")


async def closes_on_reuse(connection: Connection, request: Request) -> None:
    """The other side's pool believes the connection to be alive."""
    if request.reused:
        connection.cut()
    else:
        await says(connection, request)


async def says_too_much(connection: Connection, request: Request) -> None:
    """An answer, and behind it one that nobody asked for: in one write, so that it is there before anybody asks."""
    body = completion(request.answer)
    both = (JSON + b"content-length: %d\r\n\r\n%b" % (len(b), b) for b in (body, STRANGER))
    await connection.send(b"".join(both))


async def compressed(connection: Connection, request: Request) -> None:
    body = gzip.compress(completion(request.answer))
    await connection.answer(200, body, "application/json", "content-encoding: gzip")


async def endless_header(connection: Connection, request: Request) -> None:
    await connection.send(JSON)
    while True:
        await connection.send(b"x-more: of the same\r\n" * 512)


async def endless_error(connection: Connection, request: Request) -> None:
    await connection.send(b"HTTP/1.1 500 X\r\ncontent-type: text/plain\r\n\r\n")
    while True:
        await connection.send(b"no end in sight. " * 2048)


async def endless_json(connection: Connection, request: Request) -> None:
    """More than anybody judges whole, and then nothing more."""
    body = completion(request.answer)[:-2] + b',"padding":"'
    await connection.send(JSON + b"content-length: 99999999\r\n\r\n" + body + b"a" * (9 << 20))
    await connection.silence()


async def two_lengths(connection: Connection, request: Request) -> None:
    """A proxy that adds a length to a chunked answer, and a wrong one."""
    body = completion(request.answer)
    await connection.send(JSON + b"content-length: 5\r\n" + CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))


async def gives_up_while_idle(connection: Connection, request: Request) -> None:
    """A good answer; a moment later, unasked, what servers say before they close an idle connection."""
    await says(connection, request)
    await sends(
        Pause(0.005), b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", Act.CUT
    )(connection, request)


async def slow(connection: Connection, request: Request) -> None:
    await sends(Pause(0.4))(connection, request)
    await says(connection, request)


CONNECTION: list[Scenario] = [
    *(
        Scenario(
            f"refused ({kind})",
            WIRE,
            Right.FALLBACK,
            "a process that died: nothing was sent, so nothing can be lost",
            (says,),
            stream=kind == "stream",
            down=Down.FIRST,
        )
        for kind in KINDS
    ),
    *both("reset before headers", sends(Act.RESET), "a pod killed with the request in its hands"),
    *both("closed before headers", sends(Act.CUT), "a server that restarts"),
    *both("reset mid-headers", sends(b"HTTP/1.1 200 OK\r\ncontent-ty", Act.RESET), "half a head is no answer"),
    *both("not HTTP", sends(b"SSH-2.0-OpenSSH_9.7\r\n\r\n", Act.CUT), "the wrong port"),
    *both("huge header", sends(JSON + b"x-big: " + b"a" * 600_000, Act.CUT), "memory must stay bounded"),
    *both("endless header", endless_header, "memory must stay bounded, and time too"),
    *both("endless body of an error", endless_error, "its beginning says enough"),
    Scenario(
        "endless body (json)",
        WIRE,
        Right.ENDS,
        "nobody keeps 100 MB to judge them whole; half of them is no answer",
        (endless_json,),
        silent=1,
    ),
    Scenario(
        "chunked, and a content-length",
        WIRE,
        Right.EITHER,
        "RFC 9112 calls it an error that may be smuggling; whoever takes it must take the chunks",
        (two_lengths,),
    ),
    Scenario(
        "408 on an idle connection",
        WIRE,
        Right.EITHER,
        "what some servers say before they close: it is no answer to the next request",
        (gives_up_while_idle,),
        requests=3,
    ),
    *both("malformed chunk", sends(SSE + CHUNKED + b"zz\r\nhello\r\n", Act.CUT), "broken framing before any content"),
    Scenario(
        "connection closed as it is reused",
        WIRE,
        Right.EITHER,
        "the race of every connection pool: not one byte came back, so asking again is safe",
        (closes_on_reuse,),
        requests=3,
    ),
    Scenario(
        "bytes behind the answer",
        WIRE,
        Right.EITHER,
        "what comes on an idle connection must never become the next client's answer",
        (says_too_much,),
        requests=3,
    ),
    Scenario(
        "accepts and is silent (json)",
        WIRE,
        Right.FALLBACK,
        "a frozen process: the kernel still accepts for it",
        (sends(Act.SILENCE),),
        silent=1,
    ),
    Scenario(
        "accepts and is silent (stream)",
        WIRE,
        Right.FALLBACK,
        "a frozen process: the kernel still accepts for it",
        (sends(Act.SILENCE),),
        stream=True,
        silent=1,
    ),
    Scenario(
        "headers, then silence (json)",
        WIRE,
        Right.FALLBACK,
        "an engine whose GPU hangs after its server has answered",
        (sends(JSON + b"content-length: 99\r\n\r\n", Act.SILENCE),),
        silent=1,
    ),
    Scenario(
        "headers, then silence (stream)",
        WIRE,
        Right.FALLBACK,
        "an engine whose GPU hangs after its server has answered",
        (sends(SSE + CHUNKED, Act.SILENCE),),
        stream=True,
        silent=1,
    ),
    Scenario(
        "content-length longer than the body",
        WIRE,
        Right.FALLBACK,
        "an answer that was cut, though it reads as whole",
        (framed(JSON, more=50),),
    ),
    Scenario(
        "content-length shorter than the body",
        WIRE,
        Right.FALLBACK,
        "what the length covers is broken JSON",
        (framed(JSON, more=-50),),
    ),
    Scenario(
        "cut within a JSON answer",
        WIRE,
        Right.FALLBACK,
        "nothing of a JSON answer needs to be sent before it is whole",
        (sends(JSON + b'content-length: 99\r\n\r\n{"choices":', Act.RESET),),
    ),
]

ODD: list[Scenario] = [
    Scenario("client expects 100 Continue", FORM, Right.FIRST, "curl does with long bodies", (says,), expects=True),
    *(
        Scenario(name, FORM, Right.FIRST, why, (behave,))
        for name, why, behave in (
            ("HTTP/1.0, ends by closing", "old proxies", framed(b"HTTP/1.0 200 OK\r\n", close=True)),
            ("JSON in chunks", "most frameworks", framed(JSON, chunked=True)),
            ("103 before the answer", "a CDN", framed(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + JSON)),
            ("gzip, unasked", "a proxy that compresses everything", compressed),
            ("slow answer", "a busy GPU is slow, a dead one is silent", slow),
        )
    ),
]
