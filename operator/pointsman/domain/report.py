"""What a gateway or a pull tells the operator: the values of a report, and their JSON form.

A report is a whole snapshot; a stream of reports (server-sent events) repeats whole snapshots, so that a reader who
joins late, or loses one, needs nothing else. Decided here: the shape. Not here: how reports travel
(`gateway/admin.py`, `models/report.py`, `controllers/reports.py`) and what several of them amount to (`folding.py`).
Times are Unix seconds by the clock of the one who reports; sizes are bytes; latencies are milliseconds.
"""

from __future__ import annotations

import msgspec

REPORT_PATH = "/v1/report"
HEARTBEAT_SECONDS = 15.0
"""A stream without a change repeats its last snapshot this often."""
SILENT_AFTER_SECONDS = 90.0
"""A report older than this, by the operator's clock, is ignored."""


class PullProgress(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far one pull is. `state`: Pulling, Verifying, Pulled or Failed."""

    state: str
    completed_bytes: int = 0
    total_bytes: int = 0
    """0 while unknown."""
    bytes_per_second: int = 0
    eta_seconds: int | None = None
    digest: str = ""
    """`sha256:…` of the manifest, once resolved."""
    reason: str = ""
    """On Failed: one of `pointsman.models.errors.PullReason`."""
    message: str = ""


class PullReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="Pull", tag_field="kind"):
    """One pull Job's snapshot."""

    source: str
    progress: PullProgress
    at: float


class EndpointHealth(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One endpoint as one gateway sees it."""

    address: str
    state: str
    """Unknown, Healthy, Degraded, Unhealthy or Probation."""
    reason: str = ""
    message: str = ""
    since: float = 0.0
    latency_ms: float | None = None
    """Of the last successful probe or answer."""
    in_flight: int = 0
    running: int | None = None
    """Requests of everybody that the engine works at, as it told last; None when it does not tell."""
    waiting: int = 0
    """Requests that wait inside it."""
    cache_usage: float | None = None
    """Share of its cache for keys and values that is in use, 0 to 1."""
    saturated_until: float = 0.0
    missing_models: tuple[str, ...] = ()
    loading: bool = False


class BackendHealth(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One backend as one gateway sees it: the best of its endpoints speaks for it."""

    name: str
    generation: int
    """metadata.generation of the LLMBackend that was judged."""
    state: str
    reason: str = ""
    message: str = ""
    since: float = 0.0
    latency_ms: float | None = None
    endpoints: tuple[EndpointHealth, ...] = ()
    waiting: int = 0
    """Requests that wait for a slot of it, or for it to get ready."""
    active_at: float = 0.0
    """When a request last had something from it, or found it without a pod and wanted it; 0: never, or some are in
    flight or waiting now."""

    @property
    def requests(self) -> int:
        """In flight and waiting."""
        return self.waiting + sum(e.in_flight for e in self.endpoints)


class TargetState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Can this target of a route serve now? `state`: Ready, Unknown, or why it cannot (a reason of `candidates.py`)."""

    backend: str
    model: str
    state: str
    reason: str = ""
    since: float = 0.0


class FallbackEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The newest time a request was answered by another target than the one it would have had."""

    at: float
    from_backend: str
    to_backend: str
    reason: str
    """Why the first was left: how the attempt at it failed (`verdict.Why`), or what bars it (`candidates.Barred`)."""
    request_id: str = ""
    count: int = 1
    """Fallbacks of this route since the gateway started."""


class RouteReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One route as one gateway serves it."""

    name: str
    generation: int
    serving: bool
    """True when at least one target is usable now, for the requests of each rule and for all others."""
    targets: tuple[TargetState, ...] = ()
    last_fallback: FallbackEvent | None = None


class GatewayReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="Gateway", tag_field="kind"):
    """One gateway's snapshot."""

    gateway: str
    """The pod's name (the host's outside a cluster)."""
    at: float
    backends: tuple[BackendHealth, ...] = ()
    routes: tuple[RouteReport, ...] = ()


Report = PullReport | GatewayReport
_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Report] = msgspec.json.Decoder(Report)


def encode(report: Report) -> bytes:
    """The report as one line of JSON."""
    return _encoder.encode(report)


def decode(data: bytes | str) -> Report:
    """Raises `msgspec.ValidationError` when `data` is not a report."""
    return _decoder.decode(data)
