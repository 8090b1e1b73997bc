"""Figures under OpenTelemetry's names: what is counted, what is left out, which labels."""

from __future__ import annotations

from typing import Any

import pytest

from pointsman.gateway.insight import genai
from pointsman.gateway.insight.genai import GenAiFigures
from pointsman.gateway.insight.record import RequestRecord

USAGE = "gen_ai_client_token_usage"
DURATION = "gen_ai_server_request_duration_seconds"
FIRST = "gen_ai_server_time_to_first_token_seconds"
EACH = "gen_ai_server_time_per_output_token_seconds"


def record(**changes: Any) -> RequestRecord:
    values: dict[str, Any] = {
        "request_id": "r", "route": "chat", "model": "gpt", "status": 200, "stream": True, "ms": 1040.0, "attempts": 1,
        "backend": "a", "verdict": "Success", "why": "Answered", "first_token_ms": 40.0, "overhead_us": 90,
        "prompt_tokens": 11, "completion_tokens": 101,
    }  # fmt: skip
    return RequestRecord(**{**values, **changes})


def figures(*records: RequestRecord) -> dict[tuple[str, ...], float]:
    found = GenAiFigures()
    for r in records:
        found.of(r.operation, r.model, r.backend).observe(r)
    out = {}
    for family in found.collect():
        for s in family.samples:
            rest = {k: v for k, v in s.labels.items() if k not in ("gen_ai_operation_name", "gen_ai_provider_name")}
            out[(s.name, *rest.values())] = s.value
    return out


def test_a_stream_gives_all_four() -> None:
    seen = figures(record())
    assert seen[f"{USAGE}_sum", "gpt", "a", "input"] == 11
    assert seen[f"{USAGE}_sum", "gpt", "a", "output"] == 101
    assert seen[f"{USAGE}_bucket", "gpt", "a", "output", "64.0"] == 0
    assert seen[f"{USAGE}_bucket", "gpt", "a", "output", "256.0"] == 1
    assert seen[f"{DURATION}_sum", "gpt", "a", ""] == pytest.approx(1.04)
    assert seen[f"{FIRST}_sum", "gpt", "a"] == pytest.approx(0.04)
    assert seen[f"{EACH}_sum", "gpt", "a"] == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("changes", "absent"),
    [
        ({"prompt_tokens": None, "completion_tokens": None}, (USAGE, EACH)),
        ({"stream": False}, (FIRST, EACH)),
        ({"first_token_ms": None}, (FIRST, EACH)),
        ({"completion_tokens": 1}, (EACH,)),
        ({"attempts": 2}, (EACH,)),
        ({"backend": "", "status": 503, "verdict": "Failure"}, (USAGE, FIRST, EACH)),
        ({"verdict": "Failure"}, (FIRST, EACH)),
    ],
)
def test_what_is_not_known_is_not_counted(changes: dict[str, Any], absent: tuple[str, ...]) -> None:
    names = {key[0].removesuffix("_sum") for key in figures(record(**changes)) if key[0].endswith("_sum")}
    assert names == {USAGE, DURATION, FIRST, EACH} - set(absent)


def test_what_failed_says_how() -> None:
    seen = figures(record(status=503, verdict="Busy", backend=""), record(verdict="Failure"))
    assert seen[f"{DURATION}_count", "gpt", "", "503"] == 1, "by status"
    assert seen[f"{DURATION}_count", "gpt", "a", "Failure"] == 1, "a stream that broke after its 200"


def test_the_buckets_are_those_of_the_conventions() -> None:
    assert genai.TOKENS == (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
    assert genai.REQUEST_SECONDS == (
        0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92,
    )  # fmt: skip
