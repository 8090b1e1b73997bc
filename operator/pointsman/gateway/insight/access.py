"""The access log: one JSON line a request on standard output, written together a few times a second.

No body, no header, no credential: what a request was, who served it and how long it took.
"""

from __future__ import annotations

import asyncio
import sys
import time
from datetime import UTC, datetime
from typing import TextIO

import msgspec

from pointsman.gateway.insight.record import RequestRecord

FLUSH_SECONDS = 0.2


class AccessLog:
    """`write` is cheap: it is called on the hot path."""

    def __init__(self, loop: asyncio.AbstractEventLoop, out: TextIO | None = None) -> None:
        self._loop = loop
        self._out = out or sys.stdout
        self._waiting: list[tuple[float, RequestRecord]] = []

    def write(self, record: RequestRecord) -> None:
        if not self._waiting:
            self._loop.call_later(FLUSH_SECONDS, self.flush)
        self._waiting.append((time.time(), record))

    def flush(self) -> None:
        """Writes what waits. Losing a log line is no reason to lose a request: an output that is gone is ignored."""
        lines, self._waiting = self._waiting, []
        if not lines:
            return
        try:
            self._out.write("".join(_line(at, record) for at, record in lines))
            self._out.flush()
        except OSError:
            return


def _line(at: float, record: RequestRecord) -> str:
    moment = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    return msgspec.json.encode({"time": moment, **record.fields()}).decode() + "\n"
