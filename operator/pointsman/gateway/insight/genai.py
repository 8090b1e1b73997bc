"""Figures under the names of OpenTelemetry's GenAI semantic conventions, which dashboards already know.

Decided here: names, labels and buckets, as the conventions give them (semantic-conventions-genai, gen-ai-metrics.md,
status Development, read November 2026) and as Prometheus renames them: dots become underscores, seconds a suffix, a
unit in braces nothing. Not here: our own names (`metrics.py`).

- `gen_ai_request_model` is the name that the client asked for, and only counted when a route has it: bounded.
- `gen_ai_provider_name` is the flavour of API that the backend speaks, as the conventions want it; `backend` is ours.
- Time to the first token counts from asking the backend that answered. Time per output token is counted on streams
  of one attempt only, in which nothing else took time: (whole time - time to the first) / (output tokens - 1).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from prometheus_client.core import HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from pointsman.domain.verdict import Verdict
from pointsman.gateway.insight.histogram import Buckets
from pointsman.gateway.insight.record import RequestRecord

TOKENS = tuple(4.0**n for n in range(14))
REQUEST_SECONDS = tuple(0.01 * 2**n for n in range(14))
FIRST_TOKEN_SECONDS = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
)  # fmt: skip
PER_TOKEN_SECONDS = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
_SUCCESS: Final = Verdict.SUCCESS.value
_PROVIDER = "openai"
_LABELS = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "backend")


class Served:
    """What one backend did for one name and operation."""

    __slots__ = ("broken", "first_token", "input", "output", "per_token", "whole")

    def __init__(self) -> None:
        self.whole = Buckets(REQUEST_SECONDS)
        self.broken: dict[str, Buckets] = {}
        self.input = Buckets(TOKENS)
        self.output = Buckets(TOKENS)
        self.first_token = Buckets(FIRST_TOKEN_SECONDS)
        self.per_token = Buckets(PER_TOKEN_SECONDS)

    def observe(self, record: RequestRecord) -> None:
        """Counts a request that a route has. An unknown figure is left out: it is never zero."""
        good = record.verdict == _SUCCESS
        if good:
            self.whole.observe(record.ms / 1000)
        else:
            error = str(record.status) if record.status >= 400 else record.verdict
            self.broken.setdefault(error, Buckets(REQUEST_SECONDS)).observe(record.ms / 1000)
        if not record.backend:
            return
        out = record.completion_tokens
        if record.prompt_tokens is not None:
            self.input.observe(record.prompt_tokens)
        if out is not None:
            self.output.observe(out)
        first = record.first_token_ms
        if good and record.stream and first is not None:
            self.first_token.observe(first / 1000)
            if out is not None and out > 1 and record.attempts == 1:
                self.per_token.observe((record.ms - first) / (1000 * (out - 1)))


class GenAiFigures:
    """Of all requests that a route has."""

    def __init__(self) -> None:
        self._served: dict[tuple[str, str, str], Served] = {}

    def of(self, operation: str, model: str, backend: str) -> Served:
        key = (operation, model, backend)
        served = self._served.get(key)
        if served is None:
            served = self._served[key] = Served()
        return served

    def collect(self) -> Iterator[Metric]:
        """The families, for Prometheus."""
        tokens = _family("gen_ai_client_token_usage", "Tokens of a request, by gen_ai_token_type.", "gen_ai_token_type")
        first = _family("gen_ai_server_time_to_first_token_seconds", "Until the first content of a stream.")
        each = _family("gen_ai_server_time_per_output_token_seconds", "For each token after the first of a stream.")
        whole = _family(
            "gen_ai_server_request_duration_seconds",
            "From the request's first byte to the answer's last; error_type is empty for a whole answer.", "error_type",
        )  # fmt: skip
        for (operation, model, backend), served in self._served.items():
            labels = (operation, _PROVIDER, model, backend)
            served.input.add_to(tokens, (*labels, "input"))
            served.output.add_to(tokens, (*labels, "output"))
            served.first_token.add_to(first, labels)
            served.per_token.add_to(each, labels)
            served.whole.add_to(whole, (*labels, ""))
            for error, broken in served.broken.items():
                broken.add_to(whole, (*labels, error))
        yield from (tokens, whole, first, each)


def _family(name: str, text: str, *more: str) -> HistogramMetricFamily:
    return HistogramMetricFamily(name, text, labels=(*_LABELS, *more))
