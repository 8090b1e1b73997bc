"""The access log: one JSON line a request on standard output, written together a few times a second.

No body, no header, no credential: what a request was, who served it and how long it took.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from time import time
from typing import BinaryIO, Final

import msgspec

from pointsman.domain.verdict import Verdict
from pointsman.gateway.insight.log_line import LogLine
from pointsman.gateway.insight.record import RequestRecord

FLUSH_SECONDS: Final = 0.2
_KINDS: Final = 1024
"""Kinds of usual lines that are kept; it starts anew above."""
_SUCCESS: Final = Verdict.SUCCESS.value
_THREE: Final = [f"{n:03d}" for n in range(1000)]
_clock: Final = time
_encode: Final = msgspec.json.Encoder().encode


class AccessLog:
    """`write` is cheap: it is called on the hot path. The usual line is put together from texts that were rendered
    once: a third of what making and encoding a `LogLine` costs, which is 0.9 µs a request."""

    def __init__(self, loop: asyncio.AbstractEventLoop, out: BinaryIO | None = None) -> None:
        self._loop = loop
        self._out: BinaryIO = out or sys.stdout.buffer
        self._waiting: list[str] = []
        self._second = 0
        self._prefix = ""
        """The time of `_second`, but for what is smaller."""
        self._kinds: dict[tuple[str, str, str, str, bool], tuple[str, str]] = {}
        """What lines of one operation, route, model and backend have in common, stream or not."""

    def write(self, record: RequestRecord) -> None:
        waiting = self._waiting
        if not waiting:
            self._loop.call_later(FLUSH_SECONDS, self.flush)
        at = _clock()
        second = int(at)
        if second != self._second:
            self._second = second
            self._prefix = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S.")
        milli = _THREE[int((at - second) * 1000)]
        r = record
        first = r.first_token_ms
        if r.verdict != _SUCCESS or r.status != 200 or first is None or r.queued_ms is not None or r.asked:
            waiting.append(_rendered(f"{self._prefix}{milli}+00:00", r))
            return
        key = (r.operation, r.route, r.model, r.backend, r.stream)
        texts = self._kinds.get(key)
        if texts is None:
            texts = self._rendered_kind(key, r)
        prompt, completion = r.prompt_tokens, r.completion_tokens
        # An id needs no escaping: `front/doors.py` lets nothing through that would.
        waiting.append(
            f'{{"time":"{self._prefix}{milli}+00:00","request_id":"{r.request_id}"{texts[0]}{_millis(r.ms)}'
            f',"attempts":{r.attempts}{texts[1]}{_millis(first)},"overhead_us":{r.overhead_us}'
            f"{'' if prompt is None else _prompt(prompt)}{'' if completion is None else _completion(completion)}}}"
        )

    def _rendered_kind(self, key: tuple[str, str, str, str, bool], r: RequestRecord) -> tuple[str, str]:
        if len(self._kinds) >= _KINDS:
            self._kinds.clear()
        known = LogLine(
            operation=r.operation, route=r.route, model=r.model, status=r.status, stream=r.stream, ms=0.5
        )  # fmt: skip
        before = _encode(known).decode()[1:].removesuffix("0.5}")
        after = _encode(LogLine(backend=r.backend, verdict=r.verdict, why=r.why, first_token_ms=0.5)).decode()[1:]
        texts = self._kinds[key] = ("," + before, "," + after.removesuffix("0.5}"))
        return texts

    def flush(self) -> None:
        """Writes what waits. Losing a log line is no reason to lose a request: an output that is gone is ignored."""
        lines, self._waiting = self._waiting, []
        if not lines:
            return
        lines.append("")
        try:
            self._out.write("\n".join(lines).encode())
            self._out.flush()
        except OSError:
            return


def _millis(ms: float) -> str:
    """To the microsecond, as a JSON number."""
    us = int(ms * 1000 + 0.5)
    return f"{us // 1000}.{_THREE[us % 1000]}"


def _prompt(tokens: int) -> str:
    return f',"prompt_tokens":{tokens}'


def _completion(tokens: int) -> str:
    return f',"completion_tokens":{tokens}'


def _rendered(time: str, r: RequestRecord) -> str:
    line = LogLine(
        time, r.request_id, r.operation, r.route, r.model, r.status, r.stream, round(r.ms, 3), r.attempts, r.backend,
        r.verdict, r.why, None if r.first_token_ms is None else round(r.first_token_ms, 3), r.overhead_us,
        r.prompt_tokens, r.completion_tokens, r.queued_ms, r.asked,
    )  # fmt: skip
    text: str = _encode(line).decode()
    return text
