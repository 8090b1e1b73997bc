"""What one probe of an endpoint found: the values between who asks (`gateway/probes`) and who judges (`health.py`)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ProbeOutcome(StrEnum):
    OK = "Ok"
    FAILED = "Failed"
    TIMED_OUT = "TimedOut"
    BUSY = "Busy"
    LOADING = "Loading"
    DENIED = "Denied"
    UNSUPPORTED = "Unsupported"
    """The server answers but does not know the path (404, 405)."""


@dataclass(frozen=True)
class Probed:
    """What one probe found."""

    outcome: ProbeOutcome
    started: float
    """When the probe began, by the clock of the machine."""
    latency_ms: float | None = None
    missing: frozenset[str] | None = None
    """Models (as the engine calls them) that should be there and are not; None when the probe cannot tell."""
    retry_after: float | None = None
    reason: str = ""
    """One PascalCase word for a failure, such as `Refused`; a default follows from the outcome."""
    message: str = ""
