"""The health of every endpoint of a table: one machine each, kept while the endpoint's key stays.

Decided here: which machine an observation belongs to, and which models a probe's list shows to be missing. Not here:
what an observation does (`health.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Set
from dataclasses import dataclass

from pointsman.api.engine import Engine
from pointsman.domain.engine_load import EngineLoad
from pointsman.domain.flags import Hindrance
from pointsman.domain.health import UNLIMITED, EndpointMachine, State, Thresholds, Transition
from pointsman.domain.probed import Probed
from pointsman.domain.sharing import Crew
from pointsman.domain.table import Backend, Endpoint, RoutingTable
from pointsman.domain.verdict import Judgement, Why


@dataclass(frozen=True)
class EndpointSnapshot:
    """One endpoint at one moment. Times by the clock of the book."""

    key: str
    backend: str
    address: str
    state: State
    reason: str
    message: str
    since: float
    latency_ms: float | None
    in_flight: int
    load: EngineLoad | None
    """What the engine said of its load."""
    advanced_at: float
    """When anything last came back for a request; -inf: never."""
    saturated_until: float
    loading: bool
    missing_models: tuple[str, ...]
    """As routes call them."""
    denied: bool


@dataclass(frozen=True)
class HealthChange:
    """A transition, and whose."""

    backend: str
    endpoint: Endpoint
    transition: Transition


class _Entry:
    __slots__ = ("backend", "endpoint", "machine")

    def __init__(self, backend: Backend, endpoint: Endpoint, machine: EndpointMachine) -> None:
        self.backend = backend
        self.endpoint = endpoint
        self.machine = machine


def _mended(known: _Entry, backend: Backend) -> bool:
    """It was out because of TLS, and other authorities are believed now, or it is shown another certificate: what was
    found is void."""
    old = known.backend
    changed = old.trust != backend.trust or old.client_certificate != backend.client_certificate
    return changed and known.machine.reason == Why.TLS.value


def credential_version(backend: Backend) -> str:
    return backend.credential.version if backend.credential else ""


def thresholds(backend: Backend) -> Thresholds:
    probe = backend.probe
    return Thresholds(probe.failure_threshold, probe.success_threshold, probe.generation is not None)


def slots(backend: Backend, endpoint: Endpoint, crew: Crew) -> int:
    """How many requests at once one gateway may have at the endpoint."""
    capacity = backend.capacity
    return UNLIMITED if capacity is None else crew.share(capacity.in_flight, endpoint.key)


def missing_from(backend: Backend, listed: Set[str]) -> frozenset[str] | None:
    """Models of `backend` that a list of its engine lacks; None where a list proves nothing (many hosted APIs list
    only some of what they serve)."""
    if backend.engine is Engine.EXTERNAL:
        return None
    names = {tagged(name) for name in listed}
    return frozenset(m for m in backend.models.values() if tagged(m) not in names)


def tagged(name: str) -> str:
    """A model's name as Ollama lists it: with its tag."""
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


class HealthBook:
    def __init__(self, on_change: Callable[[HealthChange], None] | None = None) -> None:
        self._entries: dict[str, _Entry] = {}
        self._known: frozenset[str] = frozenset()
        """Backends of the table."""
        self._on_change = on_change

    def adopt(self, table: RoutingTable, now: float) -> None:
        """Endpoints whose key stays keep their health, new ones are Unknown, the others are forgotten. The first
        pods of a backend that had none begin by a ramp."""
        entries: dict[str, _Entry] = {}
        for backend in table.backends.values():
            limits = thresholds(backend)
            new: list[EndpointMachine] = []
            warm = backend.engine is Engine.EXTERNAL or backend.name not in self._known
            for endpoint in backend.endpoints:
                known = self._entries.get(endpoint.key)
                if known is not None and known.backend.name == backend.name and not _mended(known, backend):
                    machine = known.machine
                    machine.thresholds = limits
                    warm = warm or not machine.fresh
                else:
                    machine = EndpointMachine(limits, now)
                    new.append(machine)
                machine.admit(slots(backend, endpoint, table.crew))
                entries[endpoint.key] = _Entry(backend, endpoint, machine)
            if not warm:
                for machine in new:
                    machine.begin_fresh()
        self._entries = entries
        self._known = frozenset(table.backends)

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def machine(self, key: str) -> EndpointMachine | None:
        entry = self._entries.get(key)
        return entry.machine if entry else None

    def endpoints(self) -> Iterator[tuple[Backend, Endpoint]]:
        """Every endpoint of the present table, for the prober."""
        return ((e.backend, e.endpoint) for e in list(self._entries.values()))

    def told(self, key: str, load: EngineLoad | None) -> None:
        """What the engine of an endpoint says of its load."""
        entry = self._entries.get(key)
        if entry is not None:
            entry.machine.told(load)

    def in_flight(self, key: str) -> int:
        entry = self._entries.get(key)
        return entry.machine.in_flight if entry else 0

    def all_in_flight(self) -> int:
        """Attempts in flight at all endpoints."""
        return sum(entry.machine.in_flight for entry in self._entries.values())

    def hindrance(self, key: str, model: str, now: float) -> Hindrance | None:
        entry = self._entries.get(key)
        return entry.machine.hindrance(model, credential_version(entry.backend), now) if entry else None

    def advanced(self, key: str, now: float) -> None:
        """Something came back from this endpoint, for whichever request."""
        entry = self._entries.get(key)
        if entry is not None:
            entry.machine.advanced_at = now

    def observe_success(
        self, key: str, model: str, latency_ms: float | None, now: float, *, stream: bool = False
    ) -> None:
        """`latency_ms`: until the first content; of an answer that is no stream that is all of it."""
        entry = self._entries.get(key)
        if entry is not None:
            transition = entry.machine.succeeded(model, latency_ms, now, stream=stream)
            if transition is not None:
                self._tell(entry, transition)

    def observe_answer(
        self,
        key: str,
        judged: Judgement,
        *,
        model: str,
        request: str,
        now: float,
        waited_since: float,
        jitter: float = 0.0,
    ) -> None:
        """A verdict other than Success of a request to this endpoint. `model` is the engine's name for it."""
        entry = self._entries.get(key)
        if entry is not None:
            self._tell(
                entry,
                entry.machine.observe(
                    judged, model, request, now, waited_since=waited_since,
                    credential=credential_version(entry.backend), jitter=jitter,
                ),
            )  # fmt: skip

    def withdraw(self, keys: Iterable[str], request: str, now: float) -> None:
        """Several candidates failed this request in the same way: it counts against none of them."""
        for key in keys:
            entry = self._entries.get(key)
            if entry is not None:
                self._tell(entry, entry.machine.withdraw(request, now))

    def observe_probe(self, key: str, probe: Probed, now: float, jitter: float = 0.0) -> None:
        entry = self._entries.get(key)
        if entry is not None:
            self._tell(
                entry, entry.machine.probed(probe, now, credential=credential_version(entry.backend), jitter=jitter)
            )

    def observe_generation(self, key: str, probe: Probed, now: float) -> None:
        """What a check by one token found."""
        entry = self._entries.get(key)
        if entry is not None:
            self._tell(entry, entry.machine.generated(probe, now))

    def drill(self, backend: str, until: float) -> None:
        """Keeps every endpoint of the backend out of the order until then, as if it were down; a moment that has passed
        ends a drill. State, score and requests in flight stay as they are."""
        for entry in self._entries.values():
            if entry.backend.name == backend:
                entry.machine.flags.drill_until = until
                entry.machine.clear = False  # `hindrance` looks, and finds out when it is over

    def snapshot(self, key: str, now: float) -> EndpointSnapshot | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        m = entry.machine
        absent = {name for name, until in m.flags.missing.items() if now < until}
        version = credential_version(entry.backend)
        return EndpointSnapshot(
            key=key,
            backend=entry.backend.name,
            address=entry.endpoint.address,
            state=m.state,
            reason=m.reason,
            message=m.message,
            since=m.since,
            latency_ms=m.latency_ms,
            in_flight=m.in_flight,
            load=m.load,
            advanced_at=m.advanced_at,
            saturated_until=max((t for t in m.flags.saturated.values() if now < t), default=0.0),
            loading=now < m.flags.loading_until,
            missing_models=tuple(sorted(name for name, up in entry.backend.models.items() if up in absent)),
            denied=any(d.version == version and now < d.until for d in m.flags.denied.values()),
        )

    def _tell(self, entry: _Entry, transition: Transition | None) -> None:
        if transition is not None and self._on_change is not None:
            self._on_change(HealthChange(entry.backend.name, entry.endpoint, transition))
