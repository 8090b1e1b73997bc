"""A stream of server-sent events, held back until it has content, then passed on frame by frame. Pure.

Decided here: how bytes become frames, what is held back, what goes on, and how a stream ends. Not here: what a frame
means in its dialect (`EventReader`), sockets and time (`gateway/relay/answers.py`). Source: the HTML standard, §9.2.

Invariants: only whole frames go on; nothing goes on before the commit point; after the end nothing does.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Protocol

from pointsman.dialects.alike import Alike
from pointsman.dialects.usage import Usage
from pointsman.domain.judging import Said, judge_said
from pointsman.domain.verdict import EMPTY, SUCCESS, Judgement, Verdict, Why

HELD_BYTES = 1024 * 1024
FRAME_BYTES = 8 * 1024 * 1024

_BROKEN = Judgement(Verdict.FAILURE, Why.BROKEN_STREAM, "it sent an event that is no JSON")
_HELD_TOO_MUCH = Judgement(Verdict.FAILURE, Why.TOO_LARGE, "it sent more than 1 MiB of events without content")
_FRAME_TOO_LARGE = Judgement(Verdict.FAILURE, Why.TOO_LARGE, "it sent an event larger than 8 MiB")
_CUT = Judgement(Verdict.FAILURE, Why.CUT, "the connection was cut within the answer")


class Frame(Enum):
    """What one event of a stream is."""

    CONTENT = auto()
    QUIET = auto()
    """A role, an empty delta, an end: carries no content."""
    USAGE = auto()
    """Only the usage, which not every client asked for."""
    DONE = auto()
    ERROR = auto()
    BROKEN = auto()


class EventReader(Protocol):
    """A dialect's understanding of one stream."""

    done_event: bytes
    error: Said | None
    """What the stream said of its failure, with what a client may get of it."""
    content: bool
    kept_id: str
    """By which the answer can be continued; empty when it cannot."""

    @property
    def finished(self) -> bool: ...
    @property
    def usage(self) -> Usage | None: ...
    def read(self, data: bytes, event: str) -> Frame: ...
    def text(self) -> bytes:
        """The JSON string, with its quotes, that was all the content of the event read last, and no end: an event with
        another such string in its place means the same. Empty when there is none."""
        ...

    def verdict(self) -> Judgement: ...
    def error_event(self, message: str, kind: str, code: str | None) -> bytes:
        """The last event of a stream that fails after its first content."""


class EventStream:
    """Feed it what came; send on what `feed` gives back. `ended` holds the judgement when the stream is over."""

    __slots__ = (
        "_alike",
        "_held",
        "_held_size",
        "_hide_usage",
        "_tail",
        "_tail_size",
        "committed",
        "ended",
        "progress",
        "reader",
    )

    def __init__(self, reader: EventReader, *, hide_usage: bool) -> None:
        self.reader = reader
        self.committed = False
        """Content has been given out: no second answer may follow."""
        self.progress = False
        """The last `feed` brought content or the end of a choice, not only keep-alive."""
        self.ended: Judgement | None = None
        self._alike = Alike()
        self._hide_usage = hide_usage
        self._held: list[bytes] = []
        self._held_size = 0
        self._tail: list[bytes] = []
        """An event that is not whole yet, in pieces."""
        self._tail_size = 0

    def over(self) -> bool:
        return self.ended is not None

    def feed(self, data: bytes) -> bytes:
        """Takes what the backend sent; returns what the client may have now."""
        self.progress = False
        if self.over():
            return b""
        if self._alike.known and not self._tail:
            length = self._alike.length(data)
            if length:
                self.progress = True
                return data if length == len(data) else data[:length] + self._read(data[length:])
        return self._read(data)

    def _read(self, data: bytes) -> bytes:
        if self._tail:
            if b"\n" not in data and b"\r" not in data and not self._tail[-1].endswith((b"\n", b"\r")):
                self._keep(data)
                return b""
            data = self._take_tail() + data
        half = b""
        if b"\r" in data:
            if data.endswith(b"\r"):
                # It may be half of a CRLF: it waits for what follows.
                data, half = data[:-1], b"\r"
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        end = data.rfind(b"\n\n") + 2
        if end == 1:
            self._keep(data + half)
            return b""
        if half or end != len(data):
            self._keep(data[end:] + half)
            data = data[:end]
        return self._frames(data)

    def finish(self, clean: bool) -> bytes:
        """The backend's answer ended: `clean` when its HTTP framing says so, not when the connection was cut."""
        if self.over():
            return b""
        out = b""
        tail = self._take_tail().replace(b"\r", b"\n")
        closed = tail.endswith(b"\n\n")
        tail = tail.strip(b"\n")
        if tail:
            # The last event may lack its blank line: it counts if it is whole.
            out = self._frames(tail + b"\n\n")
            if self.over():
                if self.ended is _BROKEN and not closed:
                    self.ended = _CUT
                return out
        return out + (self._close() if clean or self.reader.finished else self._fail(_CUT))

    def complete(self) -> bytes:
        """Ends a stream whose choices have all finished and that says nothing more."""
        return b"" if self.over() else self._close()

    def take_held(self) -> bytes:
        """What was held back, for an empty answer that is passed on in the end."""
        held, self._held = b"".join(self._held), []
        return held

    # ---- inner

    def _take_tail(self) -> bytes:
        tail = self._tail[0] if len(self._tail) == 1 else b"".join(self._tail)
        self._tail.clear()
        self._tail_size = 0
        return tail

    def _keep(self, rest: bytes) -> None:
        self._tail.append(rest)
        self._tail_size += len(rest)
        if self._tail_size > FRAME_BYTES:
            self.ended = _FRAME_TOO_LARGE

    def _frames(self, data: bytes) -> bytes:
        """`data` ends with a blank line. Usually it is one frame, and goes on as it came."""
        if data.find(b"\n\n") + 2 == len(data):
            return self._one(data[:-2], data)
        out = []
        for text in data[:-2].split(b"\n\n"):
            if text.strip(b"\n"):
                out.append(self._one(text, text + b"\n\n"))
                if self.ended is not None:
                    break
        return b"".join(out)

    def _one(self, text: bytes, frame: bytes) -> bytes:
        if not text.isascii() and not is_utf8(text):
            # Clients would stumble over it in the middle of their answer.
            return self._fail(_BROKEN)
        alike = self._alike
        if text.startswith(b"data: ") and text.find(b"\n", 6) < 0:
            kind = self.reader.read(text[6:], "")
            if kind is Frame.CONTENT:
                alike.learn(frame, self.reader.text())
            else:
                alike.forget()
        else:
            alike.forget()
            data, event = _fields(text)
            kind = self.reader.read(data, event) if data else Frame.QUIET
            if not data:
                return self._quiet(frame)
        if kind is Frame.CONTENT:
            self.progress = True
            if self.committed:
                return frame
            self.committed = True
            return self.take_held() + frame
        if kind is Frame.QUIET:
            self.progress = self.progress or self.reader.finished
            return self._quiet(frame)
        if kind is Frame.USAGE:
            return b"" if self._hide_usage else self._quiet(frame)
        if kind is Frame.DONE:
            return self._close()
        if kind is Frame.ERROR:
            return self._fail(judge_said(self.reader.error))
        return self._fail(_BROKEN)

    def _quiet(self, frame: bytes) -> bytes:
        if self.committed:
            return frame
        self._held.append(frame)
        self._held_size += len(frame)
        if self._held_size > HELD_BYTES:
            self.ended = _HELD_TOO_MUCH
        return b""

    def _close(self) -> bytes:
        self.ended = judged = self.reader.verdict()
        if judged is SUCCESS:
            self.committed = True
            return self.take_held() + self.reader.done_event
        if judged is EMPTY:
            self._held.append(self.reader.done_event)
        return b""

    def _fail(self, judged: Judgement) -> bytes:
        self.ended = judged
        return b""


def is_utf8(data: bytes) -> bool:
    """RFC 8259 and the HTML standard want it."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _fields(text: bytes) -> tuple[bytes, str]:
    """The data and the type of an event; a comment has no data."""
    data: list[bytes] = []
    event = ""
    for line in text.split(b"\n"):
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name.removeprefix(b"\xef\xbb\xbf") == b"data":
            data.append(value)
        elif name == b"event":
            event = value.decode("latin-1")
    return b"\n".join(data), event
