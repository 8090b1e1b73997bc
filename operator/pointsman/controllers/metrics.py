"""The operator's figures for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class Metrics:
    """One operator's figures, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.reconciles = Counter(
            "pointsman_operator_reconciles", "Reconciles, by kind and result.", ["kind", "result"],
            registry=self.registry,
        )  # fmt: skip
        self.seconds = Histogram(
            "pointsman_operator_reconcile_seconds", "Duration of a reconcile.", ["kind"], registry=self.registry,
            buckets=(0.001, 0.005, 0.02, 0.1, 0.5, 2, 10, 30),
        )  # fmt: skip
        self.depth = Gauge("pointsman_operator_queue_depth", "Keys that are due.", registry=self.registry)
        self.calls = Counter(
            "pointsman_operator_api_calls", "Calls of the API server, by verb.", ["verb"], registry=self.registry
        )
        self.leader = Gauge("pointsman_operator_leader", "1 while this one leads.", registry=self.registry)
        self.reports = Gauge("pointsman_operator_reports_connected", "Open report streams.", registry=self.registry)
