"""How a simulated backend behaves: well, or wrong in exactly one way, byte for byte.

A behaviour is a coroutine that is given the connection and the request. Those here are built from pieces, so that a
fault reads as what goes over the wire.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum

from pointsman.simulator.connection import Connection, Request
from pointsman.simulator.openai_bytes import DONE, FINISH, ROLE, USAGE_FRAME, completion, delta, event

Behaviour = Callable[[Connection, Request], Awaitable[None]]

_FLUSH_SECONDS = 0.02
"""Time for what was sent to arrive as bytes of its own before the connection ends."""


class Act(Enum):
    """What a connection does when it says no more."""

    END = "end"
    """The chunked body ends as it should."""
    CUT = "cut"
    RESET = "reset"
    SILENCE = "silence"


@dataclass(frozen=True)
class Words:
    """Words of the answer, each as a delta: up to the `stop`-th, from the `start`-th on. All by default."""

    stop: int | None = None
    start: int = 0


@dataclass(frozen=True)
class Raw:
    """Bytes within a chunk of the body, as they are."""

    data: bytes


@dataclass(frozen=True)
class Pause:
    """A wait, in parts of what the other side is expected to wait for a silent backend."""

    part: float


Piece = bytes | dict[str, object] | Words | Raw | Pause | Act


async def says(connection: Connection, request: Request) -> None:
    """The whole answer, as JSON or word by word."""
    if not request.stream:
        await connection.answer(200, completion(request.answer), "application/json")
        return
    tail: tuple[Piece, ...] = (USAGE_FRAME,) if request.wants_usage else ()
    await streams(ROLE, Words(), FINISH, *tail, DONE, Act.END)(connection, request)


def answers(status: int, body: bytes = b"", content_type: str = "application/json", *headers: str) -> Behaviour:
    """One whole answer."""

    async def behave(connection: Connection, request: Request) -> None:
        await connection.answer(status, body, content_type, *headers)

    return behave


def streams(*pieces: Piece) -> Behaviour:
    """A chunked stream of events. Bytes are the data of an event, dicts too."""

    async def behave(connection: Connection, request: Request) -> None:
        await connection.open_stream()
        for piece in pieces:
            match piece:
                case Words(stop, start):
                    for word in request.words[start:stop]:
                        await connection.chunk(event(delta(word)))
                case Raw(data):
                    await connection.chunk(data)
                case Pause(part):
                    await asyncio.sleep(part * request.patience)
                case Act():
                    await _act(connection, piece)
                case _:
                    await connection.chunk(event(piece))

    return behave


def sends(*pieces: bytes | Act | Pause) -> Behaviour:
    """Bytes as they are, from the status line on."""

    async def behave(connection: Connection, request: Request) -> None:
        for piece in pieces:
            match piece:
                case bytes():
                    await connection.send(piece)
                case Pause(part):
                    await asyncio.sleep(part * request.patience)
                case Act():
                    await _act(connection, piece)

    return behave


def framed(head: bytes, *, chunked: bool = False, close: bool = False, more: int = 0) -> Behaviour:
    """The good JSON answer after `head` (status line and headers), with `content-length`, chunked, or until the
    connection closes. `more` is added to the length that is said; the connection closes when that is a lie."""

    async def behave(connection: Connection, request: Request) -> None:
        body = completion(request.answer)
        if chunked:
            half = len(body) // 2
            parts = b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in (body[:half], body[half:], b""))
            await connection.send(head + b"transfer-encoding: chunked\r\n\r\n" + parts)
        elif close:
            await connection.send(head + b"\r\n" + body)
        else:
            await connection.send(head + b"content-length: %d\r\n\r\n%b" % (len(body) + more, body))
        if close or more:
            await _act(connection, Act.CUT)

    return behave


async def _act(connection: Connection, act: Act) -> None:
    if act is Act.END:
        await connection.end_stream()
    elif act is Act.SILENCE:
        await connection.silence()
    else:
        await asyncio.sleep(_FLUSH_SECONDS)
        (connection.cut if act is Act.CUT else connection.reset)()
