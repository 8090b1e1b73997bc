"""The access log: a JSON line for each request, with what is known of it."""

from __future__ import annotations

import asyncio
import io
import json
from datetime import UTC, datetime, timedelta

from pointsman.gateway.insight.access import AccessLog
from pointsman.gateway.insight.record import RequestRecord


async def test_a_line_says_what_is_known_in_order() -> None:
    out = io.BytesIO()
    log = AccessLog(asyncio.get_running_loop(), out)
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    log.write(
        RequestRecord("r-1", "chat", "m", 200, False, 1.5, 2, "a", "Success", "Answered", 1.25, 80, 3, None, asked="mé")
    )
    log.write(RequestRecord("r-2", "", "", 404, True, 0.0, 0, "", "Caller", "", None, 0, None, None, operation=""))
    log.flush()
    first, second = (json.loads(line) for line in out.getvalue().splitlines())
    assert before <= datetime.fromisoformat(first.pop("time")) <= datetime.now(UTC)
    assert list(first.items()) == [
        ("request_id", "r-1"), ("operation", "chat"), ("route", "chat"), ("model", "m"), ("status", 200),
        ("stream", False), ("ms", 1.5), ("attempts", 2), ("backend", "a"), ("verdict", "Success"), ("why", "Answered"),
        ("first_token_ms", 1.25), ("overhead_us", 80), ("prompt_tokens", 3), ("asked", "mé"),
    ]  # fmt: skip
    second.pop("time")
    assert second == {
        "request_id": "r-2", "status": 404, "stream": True, "ms": 0.0, "attempts": 0, "verdict": "Caller",
        "overhead_us": 0,
    }  # fmt: skip


async def test_the_usual_line_is_the_same_as_any_other() -> None:
    """It is put together in another way."""
    out = io.BytesIO()
    log = AccessLog(asyncio.get_running_loop(), out)
    usual = ("r-1", 'ch"at', "mé", 200, True, 1234.5678, 3, "a", "Success", "Answered", 0.0123, 80)
    cases = [(None, None), (11, None), (None, 101), (0, 5)] * 2
    for prompt, completion in cases:
        log.write(RequestRecord(*usual, prompt, completion))
        log.write(RequestRecord(*usual, prompt, completion, asked="x"))
    log.flush()
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert len(lines) == 2 * len(cases)
    for quick, slow in zip(lines[::2], lines[1::2], strict=True):
        assert slow.pop("asked") == "x"
        times = [datetime.fromisoformat(line.pop("time")) for line in (quick, slow)]
        assert times[0] <= times[1]
        assert list(quick.items()) == list(slow.items())
    assert (lines[0]["ms"], lines[0]["first_token_ms"]) == (1234.568, 0.012)


async def test_an_output_that_is_gone_is_no_reason_to_fail() -> None:
    class Gone(io.BytesIO):
        def write(self, data: object) -> int:
            raise BrokenPipeError

    log = AccessLog(asyncio.get_running_loop(), Gone())
    log.write(RequestRecord("r", "", "", 404, False, 0.0, 0, "", "Caller", "", None, 0, None, None))
    log.flush()
