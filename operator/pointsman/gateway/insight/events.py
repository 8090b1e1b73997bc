"""What the data path tells others: events for reports, figures for metrics and the access log.

Decided here: the values. Not here: what becomes of them (`metrics.py`, `admin.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import msgspec

from pointsman.domain.health import State
from pointsman.domain.report import FallbackEvent
from pointsman.domain.table import RoutingTable


@dataclass(frozen=True)
class HealthChanged:
    backend: str
    endpoint: str
    """Its key."""
    address: str
    old: State
    new: State
    reason: str
    message: str
    at: float
    """Unix seconds."""


@dataclass(frozen=True)
class FellBack:
    route: str
    event: FallbackEvent


@dataclass(frozen=True)
class TableChanged:
    table: RoutingTable


Event = HealthChanged | FellBack | TableChanged


class RequestRecord(msgspec.Struct, gc=False):
    """One finished request, for metrics and the access log. Times in milliseconds unless the name says otherwise."""

    request_id: str
    route: str
    """Empty when no route has the model."""
    model: str
    """The name or pattern of the route that the client asked by: bounded by the routes. Empty when it did not get that
    far."""
    status: int
    """The HTTP status that the client saw; 499 when it went away before."""
    stream: bool
    ms: float
    attempts: int
    backend: str
    """Who served; empty when nobody did."""
    verdict: str
    """Of the last attempt; `Success` when the answer was whole."""
    why: str
    first_token_ms: float | None
    overhead_us: int
    """Our own time before the first byte: neither waiting for the client nor for a backend."""
    prompt_tokens: int | None
    """None when the backend did not say: unknown is never zero."""
    completion_tokens: int | None
    consumer: str = ""
    queued_ms: float | None = None
    """Of a request that waited for a slot, or for a target that was not ready."""
    asked: str = ""
    """What the client asked for, where that is not `model` but matches it."""


class Meter(Protocol):
    """Where figures go. Called on the hot path: must be cheap and must not raise."""

    def request_started(self) -> None: ...

    def request_finished(self, record: RequestRecord) -> None: ...

    def attempt_finished(self, route: str, backend: str, model: str, verdict: str, why: str, ms: float) -> None:
        """One attempt, also the failed ones; `model` as the route names it."""

    def fell_back(self, route: str, from_backend: str, to_backend: str, reason: str) -> None: ...

    def generation_checked(self, backend: str, outcome: str) -> None:
        """A check by one token; `outcome` is a `ProbeOutcome`."""

    def waited(self, route: str, awaited: str, outcome: str) -> None:
        """A request's wait for a `Slot` or for `Warmth` is over: `Served`, `TimedOut`, `Full` (it could not wait at
        all) or `Left` (the client did)."""

    def hedged(self, route: str, outcome: str) -> None:
        """A second target was asked beside the first: `Won` when its content came first, `Lost`, or `Failed`."""


class NoMeter:
    """Counts nothing."""

    def request_started(self) -> None:
        return

    def request_finished(self, record: RequestRecord) -> None:
        return

    def attempt_finished(self, route: str, backend: str, model: str, verdict: str, why: str, ms: float) -> None:
        return

    def fell_back(self, route: str, from_backend: str, to_backend: str, reason: str) -> None:
        return

    def generation_checked(self, backend: str, outcome: str) -> None:
        return

    def waited(self, route: str, awaited: str, outcome: str) -> None:
        return

    def hedged(self, route: str, outcome: str) -> None:
        return
