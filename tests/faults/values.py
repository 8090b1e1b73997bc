"""What the two sides write down: one line of JSON for each thing that happened. Times by the machine's monotonic clock,
in seconds, which all processes share."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

T = TypeVar("T")


class Arrival(msgspec.Struct, gc=False):
    """One request as a backend saw it."""

    backend: str
    number: int
    """Of the arrival, at any backend: each answer carries it, so that no two answers are alike."""
    request: str
    model: str
    fault: str
    stream: bool
    reused: bool
    """The connection had carried a request before."""
    asked_usage: bool
    intact: bool
    """The body is what the client sent, but for what a gateway may change."""
    at: float
    done: float
    how: Literal["done", "left", "killed"]
    """`left`: the other side went away before the end; `killed`: the backend went down within."""

    @property
    def text(self) -> str:
        return answer_text(self.backend, self.request, self.number)


class Down(msgspec.Struct, gc=False):
    """A backend refused connections for a while."""

    backend: str
    at: float
    until: float


class Asked(msgspec.Struct, gc=False):
    """One request as its client saw it, and all that it got."""

    request: str
    model: str
    stream: bool
    fallback: bool
    usage: bool
    """The client itself asked for the usage frame."""
    at: float
    done: float
    left: str = ""
    """The stage at which the client went away; empty when it stayed."""
    status: int = 0
    """0: no head came."""
    head: float = 0.0
    """When it came."""
    backend: str = ""
    attempts: int = 0
    trial: str = ""
    verdict: str = ""
    retry_after: str = ""
    text: str = ""
    finished: bool = False
    done_events: int = 0
    error_events: int = 0
    broken_events: int = 0
    whole: bool = False
    """The body ended as its framing says."""
    body: str = ""
    """Of an answer that is no stream, or of a stream without content."""
    patient: bool = False
    """Its head came before anybody had answered: who did, and what failed, stands within the stream."""


class Move(msgspec.Struct, gc=False):
    """`FellBack` of the gateway's events."""

    request: str
    origin: str
    target: str
    reason: str


class Change(msgspec.Struct, gc=False):
    """`HealthChanged` of the gateway's events."""

    backend: str
    at: float
    old: str
    new: str
    reason: str


WORDS = 8


def answer_text(backend: str, request: str, number: int) -> str:
    """The whole answer to that arrival: the token first, then words of more than one byte a character."""
    return f"{backend}/{request}/{number} fünf Wörter für dich – {number} mal"


def start_of(text: str, words: int) -> str:
    return " ".join(text.split(" ")[:words])


def checksum(messages: object, stream: object) -> str:
    """Of all that a request holds and no gateway may change."""
    return f"{zlib.crc32(msgspec.json.encode([messages, bool(stream)])):08x}"


def write(path: Path, values: list[T]) -> None:
    with path.open("ab") as file:
        file.write(b"".join(msgspec.json.encode(v) + b"\n" for v in values))


def read(path: Path, kind: type[T]) -> list[T]:
    decoder = msgspec.json.Decoder(kind)
    return [decoder.decode(line) for line in path.read_bytes().splitlines()] if path.exists() else []
