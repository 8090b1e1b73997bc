"""What was seen of one request, on both sides: values only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any


@dataclass(frozen=True)
class Answer:
    """What the client got. `status` 0: no head came at all."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    whole: bool
    """The body ended as its framing says."""
    stream: bool
    """An event stream was asked for."""

    @cached_property
    def json(self) -> Any:
        """None when the body is no JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    @property
    def is_events(self) -> bool:
        return "event-stream" in self.headers.get("content-type", "")

    @cached_property
    def frames(self) -> list[Any]:
        """The data of each event: decoded, `[DONE]` as text, None for what is broken."""
        found: list[Any] = []
        for block in self.body.decode("utf-8", "replace").replace("\r\n", "\n").split("\n\n"):
            lines = block.split("\n")
            data = "\n".join(line[5:].removeprefix(" ") for line in lines if line.startswith("data:"))
            if not data:
                continue
            try:
                frame = data if data == "[DONE]" else json.loads(data)
            except ValueError:
                frame = None
            if "event: error" in lines and isinstance(frame, dict):
                frame = {"error": frame.get("error", frame)}
            found.append(frame)
        return found

    @property
    def text(self) -> str:
        """All content of the first choice."""
        frames = self.frames if self.is_events else [self.json]
        out = ""
        for choice in (c for f in frames if isinstance(f, dict) for c in f.get("choices") or ()):
            part = choice.get("delta") or choice.get("message") or {}
            out += part.get("content") or ""
        return out

    @property
    def finished(self) -> bool:
        """A `finish_reason` came."""
        frames = self.frames if self.is_events else [self.json]
        return any(c.get("finish_reason") for f in frames if isinstance(f, dict) for c in f.get("choices") or ())

    @property
    def done(self) -> int:
        return self.frames.count("[DONE]") if self.is_events else 0

    @property
    def errors(self) -> int:
        """Error events."""
        return sum(isinstance(f, dict) and bool(f.get("error")) for f in self.frames) if self.is_events else 0

    @property
    def broken(self) -> int:
        """Events that no client can read."""
        return self.frames.count(None) if self.is_events else 0


@dataclass(frozen=True)
class Observed:
    """One request of a scenario."""

    answer: Answer
    ms: float
    first: int
    """Attempts that the first backend saw."""
    second: int
    first_text: str
    """What the first backend's whole answer is."""
    second_text: str
    left_ms: float | None = None
    """After the client left: when the first backend noticed."""
    addresses: tuple[str, ...] = field(default=())
    """Of the backends: no client should learn them."""
