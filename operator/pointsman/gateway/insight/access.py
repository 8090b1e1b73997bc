"""The access log: one JSON line a request on standard output, written together a few times a second.

No body, no header, no credential: what a request was, who served it and how long it took.
"""

from __future__ import annotations

import asyncio
import sys
import time
from datetime import UTC, datetime
from typing import BinaryIO

import msgspec

from pointsman.gateway.insight.log_line import LogLine
from pointsman.gateway.insight.record import RequestRecord

FLUSH_SECONDS = 0.2
_encode = msgspec.json.Encoder().encode


class AccessLog:
    """`write` is cheap: it is called on the hot path."""

    def __init__(self, loop: asyncio.AbstractEventLoop, out: BinaryIO | None = None) -> None:
        self._loop = loop
        self._out: BinaryIO = out or sys.stdout.buffer
        self._waiting: list[bytes] = []
        self._second = 0
        self._prefix = ""
        """The time of `_second`, but for what is smaller."""

    def write(self, record: RequestRecord) -> None:
        waiting = self._waiting
        if not waiting:
            self._loop.call_later(FLUSH_SECONDS, self.flush)
        at = time.time()
        second = int(at)
        if second != self._second:
            self._second = second
            self._prefix = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S.")
        r = record
        waiting.append(
            _encode(
                LogLine(
                    f"{self._prefix}{int((at - second) * 1000):03d}+00:00", r.request_id, r.operation, r.route, r.model,
                    r.status, r.stream, r.ms, r.attempts, r.backend, r.verdict, r.why, r.first_token_ms, r.overhead_us,
                    r.prompt_tokens, r.completion_tokens, r.queued_ms, r.asked,
                )
            )
        )  # fmt: skip

    def flush(self) -> None:
        """Writes what waits. Losing a log line is no reason to lose a request: an output that is gone is ignored."""
        lines, self._waiting = self._waiting, []
        if not lines:
            return
        lines.append(b"")
        try:
            self._out.write(b"\n".join(lines))
            self._out.flush()
        except OSError:
            return
