"""What a gateway knows: its table, the health of its endpoints, its last fallbacks. And who wants to hear of changes.

One object, one thread (the event loop's). The data path, the prober, the watchers and the admin server all work on it;
nothing here does I/O.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from pointsman.domain.book import HealthBook, HealthChange
from pointsman.domain.candidates import target_states
from pointsman.domain.engine_load import EngineLoad
from pointsman.domain.health import State
from pointsman.domain.probed import Probed
from pointsman.domain.report import (
    BackendHealth,
    EndpointHealth,
    FallbackEvent,
    GatewayReport,
    RouteReport,
    TargetState,
)
from pointsman.domain.table import Backend, BrokenTarget, RefProblem, Route, RoutingTable
from pointsman.gateway.insight.events import Event, FellBack, HealthChanged, TableChanged, Wanted
from pointsman.gateway.insight.meter import Meter, NoMeter
from pointsman.gateway.insight.record import RequestRecord
from pointsman.gateway.relay.hold import Hold
from pointsman.gateway.relay.learnt import Learnt
from pointsman.gateway.relay.waiting_room import WaitingRoom

NEVER = float("-inf")
_BEST = (State.HEALTHY, State.DEGRADED, State.PROBATION, State.UNKNOWN, State.UNHEALTHY)


class GatewayState:
    """`clock` is monotonic and judges; `wall` is Unix time and is only reported."""

    def __init__(
        self,
        name: str,
        *,
        table: RoutingTable | None = None,
        meter: Meter | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.name = name
        self.meter: Meter = meter or NoMeter()
        self.access_log: Callable[[RequestRecord], None] | None = None
        self.clock = clock
        self.jitter = jitter
        self._wall = wall
        self._offset = wall() - clock()
        self.events = 0
        """How many were published: of two equal ones nothing changed in between."""
        self._subscribers: list[Callable[[Event], None]] = []
        self.table = RoutingTable()
        self.health = HealthBook(self._health_changed)
        self.waiting = WaitingRoom(lambda: self.table.crew)
        """Requests that wait for a slot."""
        self.held = Hold()
        """Requests that wait for a target to get ready."""
        self.learnt = Learnt()
        """Who keeps which answer, and who does not know which operation."""
        self.wanted: dict[str, float] = {}
        """Backend without a pod → when a request last wanted it."""
        self.last_fallback: dict[str, FallbackEvent] = {}
        """Route → its newest fallback."""
        if table is not None:
            self.set_table(table)

    # ---- changes

    def set_table(self, table: RoutingTable) -> None:
        """Serves by `table` from the next request on."""
        self.table = table
        self.health.adopt(table, self.clock())
        self.learnt.unknown.forget()
        self.last_fallback = {r: e for r, e in self.last_fallback.items() if r in table.routes}
        podless = {b.name for b in table.backends.values() if not b.endpoints}
        self.wanted = {b: at for b, at in self.wanted.items() if b in podless}
        self._publish(TableChanged(table))

    def subscribe(self, callback: Callable[[Event], None]) -> Callable[[], None]:
        """Calls `callback` at each change until the returned function is called."""
        self._subscribers.append(callback)
        return lambda: self._subscribers.remove(callback) if callback in self._subscribers else None

    def observe_probe(self, endpoint_key: str, probe: Probed) -> None:
        """What the prober found. `probe.started` is by `self.clock`."""
        self.health.observe_probe(endpoint_key, probe, self.clock(), self.jitter())

    def observe_load(self, endpoint_key: str, load: EngineLoad | None) -> None:
        """What the engine says of its load."""
        self.health.told(endpoint_key, load)

    def observe_generation(self, endpoint_key: str, probe: Probed) -> None:
        """What a check by one token found."""
        self.health.observe_generation(endpoint_key, probe, self.clock())

    def want(self, backend: str, now: float) -> None:
        """A request would have gone there, had it a pod. Whoever follows hears it once until there is one."""
        new = backend not in self.wanted
        self.wanted[backend] = now
        if new:
            self._publish(Wanted(backend))

    def fell_back(self, route: str, from_backend: str, to_backend: str, reason: str, request_id: str) -> None:
        last = self.last_fallback.get(route)
        event = FallbackEvent(
            at=self._wall(),
            from_backend=from_backend,
            to_backend=to_backend,
            reason=reason,
            request_id=request_id,
            count=last.count + 1 if last else 1,
        )
        self.last_fallback[route] = event
        self.meter.fell_back(route, from_backend, to_backend, reason)
        self._publish(FellBack(route, event))

    # ---- reading

    def unix(self, moment: float) -> float:
        """Unix seconds of a moment of `clock`. The same moment gives the same figure, unless the wall clock is set."""
        offset = self._wall() - self.clock()
        if abs(offset - self._offset) > 1:
            self._offset = offset
        return moment + self._offset

    def report_snapshot(self) -> GatewayReport:
        now = self.clock()
        held = self.held.waiting()
        return GatewayReport(
            gateway=self.name,
            at=self._wall(),
            backends=tuple(self._backend(b, held[b.name], now) for b in self.table.backends.values()),
            routes=tuple(self._route(r, now) for r in self.table.routes.values()),
        )

    def _backend(self, backend: Backend, held: int, now: float) -> BackendHealth:
        endpoints = []
        waiting = self.waiting.waiting(backend.name) + held
        active = self.wanted.get(backend.name, NEVER)
        for endpoint in backend.endpoints:
            s = self.health.snapshot(endpoint.key, now)
            if s is not None:
                active = max(active, s.advanced_at)
                endpoints.append(
                    EndpointHealth(
                        address=s.address,
                        state=s.state.value,
                        reason=s.reason,
                        message=s.message,
                        since=self.unix(s.since),
                        latency_ms=s.latency_ms,
                        in_flight=s.in_flight,
                        running=s.load.running if s.load else None,
                        waiting=s.load.waiting if s.load else 0,
                        cache_usage=s.load.cache_usage if s.load else None,
                        saturated_until=self.unix(s.saturated_until) if s.saturated_until else 0.0,
                        missing_models=s.missing_models,
                        loading=s.loading,
                    )
                )
        busy = waiting > 0 or any(e.in_flight for e in endpoints)
        active_at = 0.0 if busy or active == NEVER else self.unix(active)
        if not endpoints:
            return BackendHealth(
                name=backend.name,
                generation=backend.generation,
                state=State.UNKNOWN.value,
                reason=RefProblem.CA_BUNDLE_MISSING.value if backend.unreachable else "NoEndpoint",
                message=backend.unreachable or "no pod of it is ready",
                waiting=waiting,
                active_at=active_at,
            )
        best = min(endpoints, key=lambda e: _BEST.index(State(e.state)))
        return BackendHealth(
            name=backend.name,
            generation=backend.generation,
            state=best.state,
            reason=best.reason,
            message=best.message,
            since=best.since,
            latency_ms=best.latency_ms,
            endpoints=tuple(endpoints),
            waiting=waiting,
            active_at=active_at,
        )

    def _route(self, route: Route, now: float) -> RouteReport:
        states = []
        able = set()
        for target, barred in target_states(route, self.health, now):
            name = target.backend if isinstance(target, BrokenTarget) else target.backend.name
            if barred is not None:
                states.append(
                    TargetState(backend=name, model=target.model, state=barred.reason.value, reason=barred.message)
                )
                continue
            assert not isinstance(target, BrokenTarget)
            able.add((name, target.model))
            known = [m for e in target.backend.endpoints if (m := self.health.machine(e.key)) is not None]
            proven = [m for m in known if m.state is not State.UNKNOWN]
            since = min((m.since for m in proven or known), default=now)
            state = "Ready" if proven else "Unknown"
            states.append(TargetState(backend=name, model=target.model, state=state, since=self.unix(since)))
        return RouteReport(
            name=route.name,
            generation=route.generation,
            serving=all(any((t.backend.name, t.model) in able for t in v.targets) for v in route.variants),
            targets=tuple(states),
            last_fallback=self.last_fallback.get(route.name),
        )

    # ---- inner

    def _health_changed(self, change: HealthChange) -> None:
        t = change.transition
        self._publish(
            HealthChanged(
                backend=change.backend,
                endpoint=change.endpoint.key,
                address=change.endpoint.address,
                old=t.old,
                new=t.new,
                reason=t.reason,
                message=t.message,
                at=self.unix(t.at),
            )
        )

    def _publish(self, event: Event) -> None:
        self.events += 1
        for callback in tuple(self._subscribers):
            callback(event)
