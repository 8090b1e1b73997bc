"""The gateway's figures: counted in plain numbers on the hot path, rendered for Prometheus when asked.

Decided here: our names, labels and buckets (docs and dashboards use them). Not here: OpenTelemetry's (`genai.py`).
Labels are bounded: routes, backends and their models come from the resources, codes and verdicts from closed sets; a
model that no route has is not a label. Names end in their unit; counters count since the process started.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from prometheus_client import GC_COLLECTOR, PLATFORM_COLLECTOR, PROCESS_COLLECTOR, CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from pointsman import __version__
from pointsman.domain.book import slots
from pointsman.domain.health import State
from pointsman.domain.verdict import Verdict
from pointsman.gateway.insight.genai import GenAiFigures, Served
from pointsman.gateway.insight.histogram import Buckets
from pointsman.gateway.insight.record import RequestRecord
from pointsman.gateway.sources.source import SourceStatus
from pointsman.gateway.state import GatewayState

CONTENT_TYPE = CONTENT_TYPE_LATEST
DURATION_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
OVERHEAD_SECONDS = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1)


_SUCCESS: Final = Verdict.SUCCESS.value


class _Tally:
    """Of the requests that are alike in all labels."""

    __slots__ = ("durations", "good", "input", "output", "served")

    def __init__(self, durations: Buckets, served: Served) -> None:
        self.durations = durations
        """Shared by all tallies of a route."""
        self.served = served
        self.good = 0
        """Those that got a 200."""
        self.input = 0
        """Tokens."""
        self.output = 0


class GatewayMeter:
    """A `Meter`. One thread, two dictionary look-ups a request."""

    def __init__(self) -> None:
        self.started = 0
        self.finished = 0
        self._tallies: dict[tuple[str, str, str, str], _Tally] = {}
        """Of requests, by route, model, backend and operation: one look-up a request."""
        self._others: dict[tuple[str, int], int] = {}
        """Requests that did not get a 200, by route and status."""
        self._good: dict[str, int] = {}
        """Attempts that succeeded, by backend."""
        self._bad: dict[tuple[str, str], int] = {}
        """The others, by backend and verdict."""
        self.durations: dict[str, Buckets] = {}
        self.first_tokens: dict[str, Buckets] = {}
        self.overhead = Buckets(OVERHEAD_SECONDS)
        self.fallbacks: dict[tuple[str, str, str, str], int] = {}
        self.generations: dict[tuple[str, str], int] = {}
        self.waits: dict[tuple[str, str, str], int] = {}
        self.queued: dict[str, Buckets] = {}
        self.hedges: dict[tuple[str, str], int] = {}
        self.gen_ai = GenAiFigures()

    def request_started(self) -> None:
        self.started += 1

    def request_finished(self, record: RequestRecord) -> None:
        self.finished += 1
        route = record.route
        key = (route, record.model, record.backend, record.operation)
        tally = self._tallies.get(key)
        if tally is None:
            tally = self._tallies[key] = self._tally(record)
        if record.status == 200:
            tally.good += 1
        else:
            other = (route, record.status)
            self._others[other] = self._others.get(other, 0) + 1
        tally.durations.observe(record.ms / 1000)
        if record.first_token_ms is not None:
            tokens = self.first_tokens.get(route)
            if tokens is None:
                tokens = self.first_tokens[route] = Buckets(DURATION_SECONDS)
            tokens.observe(record.first_token_ms / 1000)
        if record.queued_ms is not None:
            queued = self.queued.get(route)
            if queued is None:
                queued = self.queued[route] = Buckets(DURATION_SECONDS)
            queued.observe(record.queued_ms / 1000)
        if route:
            tally.served.observe(record)
        if not record.backend:
            return
        self.overhead.observe(record.overhead_us / 1_000_000)
        if record.prompt_tokens:
            tally.input += record.prompt_tokens
        if record.completion_tokens:
            tally.output += record.completion_tokens

    def _tally(self, record: RequestRecord) -> _Tally:
        durations = self.durations.get(record.route)
        if durations is None:
            durations = self.durations[record.route] = Buckets(DURATION_SECONDS)
        # What no route has is not a label.
        served = self.gen_ai.of(record.operation, record.model, record.backend) if record.route else Served()
        return _Tally(durations, served)

    def attempt_finished(self, route: str, backend: str, model: str, verdict: str, why: str, ms: float) -> None:
        if verdict == _SUCCESS:
            self._good[backend] = self._good.get(backend, 0) + 1
        else:
            key = (backend, verdict)
            self._bad[key] = self._bad.get(key, 0) + 1

    def fell_back(self, route: str, from_backend: str, to_backend: str, reason: str) -> None:
        key = (route, from_backend, to_backend, reason)
        self.fallbacks[key] = self.fallbacks.get(key, 0) + 1

    def generation_checked(self, backend: str, outcome: str) -> None:
        key = (backend, outcome)
        self.generations[key] = self.generations.get(key, 0) + 1

    def waited(self, route: str, awaited: str, outcome: str) -> None:
        key = (route, awaited, outcome)
        self.waits[key] = self.waits.get(key, 0) + 1

    def hedged(self, route: str, outcome: str) -> None:
        key = (route, outcome)
        self.hedges[key] = self.hedges.get(key, 0) + 1

    # ---- reading

    def requests(self) -> dict[tuple[str, str], int]:
        """By route and status."""
        found = {(route, str(status)): n for (route, status), n in self._others.items()}
        for (route, _, _, _), tally in self._tallies.items():
            if tally.good:
                found[route, "200"] = found.get((route, "200"), 0) + tally.good
        return found

    def attempts(self) -> dict[tuple[str, str], int]:
        """By backend and verdict."""
        return {**{(backend, _SUCCESS): n for backend, n in self._good.items()}, **self._bad}

    def tokens(self) -> dict[tuple[str, str, str], int]:
        """By backend, model and direction."""
        found: dict[tuple[str, str, str], int] = {}
        for (route, model, backend, _), tally in self._tallies.items():
            for direction, count in (("input", tally.input), ("output", tally.output)):
                if count:
                    key = (backend, model if route else "", direction)
                    found[key] = found.get(key, 0) + count
        return found


class GatewayCollector(Collector):
    """Renders the meter, the health book and the source's status at the moment of the scrape."""

    def __init__(self, meter: GatewayMeter, state: GatewayState, source: SourceStatus) -> None:
        self._meter = meter
        self._state = state
        self._source = source

    def collect(self) -> Iterator[Metric]:
        yield from self._traffic()
        yield from self._meter.gen_ai.collect()
        yield from self._endpoints()
        yield from self._config()

    def _traffic(self) -> Iterator[Metric]:
        m = self._meter
        yield _counter(
            "pointsman_requests", "Requests answered, by route (empty: no route has the model) and HTTP status.",
            ("route", "code"), m.requests().items(),
        )  # fmt: skip
        yield _counter(
            "pointsman_attempts", "Attempts at a backend, by what they meant.", ("backend", "verdict"),
            m.attempts().items(),
        )  # fmt: skip
        yield _counter(
            "pointsman_fallbacks", "Requests that moved on from one backend to another.",
            ("route", "from", "to", "reason"), m.fallbacks.items(),
        )  # fmt: skip
        yield _counter(
            "pointsman_generation_checks", "Checks by one token, by what they found.", ("backend", "outcome"),
            m.generations.items(),
        )  # fmt: skip
        yield _counter(
            "pointsman_tokens", "Tokens as the backends counted them; direction is input or output.",
            ("backend", "model", "direction"), m.tokens().items(),
        )  # fmt: skip
        yield _counter(
            "pointsman_waits", "Requests that waited for a Slot or for Warmth, or would have, by how that ended.",
            ("route", "for", "outcome"), m.waits.items(),
        )  # fmt: skip
        yield _counter(
            "pointsman_hedges", "Streams asked of a second target beside a slow first one, by whether it was faster.",
            ("route", "outcome"), m.hedges.items(),
        )  # fmt: skip
        for name, text, found in (
            ("pointsman_queue_seconds", "How long requests that waited did so.", m.queued),
            ("pointsman_request_duration_seconds", "From the request's first byte to the answer's last.", m.durations),
            ("pointsman_first_token_seconds", "From asking who answered to the first content.", m.first_tokens),
        ):
            histogram = HistogramMetricFamily(name, text, labels=("route",))
            for route, buckets in found.items():
                buckets.add_to(histogram, (route,))
            yield histogram
        overhead = HistogramMetricFamily(
            "pointsman_overhead_seconds",
            "The gateway's own time before the first byte, without any waiting.",
            labels=(),
        )
        m.overhead.add_to(overhead, ())
        yield overhead
        open_now = GaugeMetricFamily("pointsman_requests_in_flight", "Requests being answered.")
        open_now.add_metric((), m.started - m.finished)
        yield open_now

    def _endpoints(self) -> Iterator[Metric]:
        yield from self._rooms()
        in_flight = GaugeMetricFamily("pointsman_in_flight", "Attempts in flight at a backend.", labels=("backend",))
        health = GaugeMetricFamily(
            "pointsman_endpoint_health", "1 for the state that the endpoint is in, else 0.",
            labels=("backend", "endpoint", "state"),
        )  # fmt: skip
        now = self._state.clock()
        for backend in self._state.table.backends.values():
            total = 0
            for endpoint in backend.endpoints:
                seen = self._state.health.snapshot(endpoint.key, now)
                if seen is None:
                    continue
                total += seen.in_flight
                for state in State:
                    health.add_metric((backend.name, endpoint.address, state.value), float(seen.state is state))
            in_flight.add_metric((backend.name,), total)
        yield in_flight
        yield health

    def _rooms(self) -> Iterator[Metric]:
        state = self._state
        limit = GaugeMetricFamily(
            "pointsman_in_flight_limit", "Attempts that this gateway may have in flight at a limited backend.",
            labels=("backend",),
        )  # fmt: skip
        queued = GaugeMetricFamily(
            "pointsman_queued", "Requests that wait for a slot of a limited backend.", labels=("backend",)
        )
        held = GaugeMetricFamily(
            "pointsman_held", "Requests that wait for a target that is not ready.", labels=("route",)
        )
        for backend in state.table.backends.values():
            if backend.capacity is not None:
                most = sum(slots(backend, e, state.table.crew) for e in backend.endpoints)
                limit.add_metric((backend.name,), most)
                queued.add_metric((backend.name,), state.waiting.waiting(backend.name))
        for route in state.table.routes.values():
            if route.hold is not None:
                held.add_metric((route.name,), state.held.count(route.name))
        yield from (limit, queued, held)

    def _config(self) -> Iterator[Metric]:
        source, table = self._source, self._state.table
        for name, text, value in (
            ("pointsman_config_last_reload_successful", "1 when the last reading of the configuration succeeded.",
             float(source.successful)),
            ("pointsman_config_last_reload_success_timestamp_seconds", "When the table in service was read.",
             source.loaded_at),
            ("pointsman_config_backends", "Backends of the table in service.", float(len(table.backends))),
            ("pointsman_config_routes", "Routes of the table in service.", float(len(table.routes))),
        ):  # fmt: skip
            gauge = GaugeMetricFamily(name, text)
            gauge.add_metric((), value)
            yield gauge
        build = GaugeMetricFamily("pointsman_build_info", "Always 1.", labels=("version",))
        build.add_metric((__version__,), 1)
        yield build


def registry_of(meter: GatewayMeter, state: GatewayState, source: SourceStatus) -> CollectorRegistry:
    """All figures of one gateway, those of its process included."""
    registry = CollectorRegistry()
    registry.register(GatewayCollector(meter, state, source))
    for collector in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):
        registry.register(collector)
    return registry


def render(registry: CollectorRegistry) -> bytes:
    """The text that Prometheus reads, of type `CONTENT_TYPE`."""
    return generate_latest(registry)


def _counter(
    name: str, text: str, labels: tuple[str, ...], rows: Iterable[tuple[tuple[str, ...], int]]
) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=labels)
    for values, n in rows:
        family.add_metric(values, n)
    return family
