"""Who counts what the data path does."""

from __future__ import annotations

from typing import Protocol

from pointsman.gateway.insight.record import RequestRecord


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
