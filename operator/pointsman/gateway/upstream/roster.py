"""What a routing table means for connections: which lane leads to which endpoint.

A roster belongs to one table, and a request is served by the roster it started with: a reload in the middle changes
nothing for it. Decided here: what one roster takes over from the one before. Not here: who is asked (`domain/`).
"""

from __future__ import annotations

from collections.abc import Callable

from pointsman.domain.book import HealthBook, thresholds
from pointsman.domain.candidates import first_choice
from pointsman.domain.features import Features
from pointsman.domain.health import EndpointMachine
from pointsman.domain.rules import Match
from pointsman.domain.strategies import Seat
from pointsman.domain.table import Backend, Endpoint, Route, RoutingTable, Target, Tier
from pointsman.gateway.limits import Limits
from pointsman.gateway.upstream.dialer import Dialer
from pointsman.gateway.upstream.pool import EndpointPool

NAMES_KEPT = 4096
"""Names that patterns matched are looked up anew above so many."""


class Lane(Seat):
    """The way to one endpoint for one target: looked up once, used for every request."""

    __slots__ = ("pool", "served_at_once", "served_by")

    def __init__(self, target: Target, endpoint: Endpoint, machine: EndpointMachine, pool: EndpointPool) -> None:
        super().__init__(target, endpoint, machine)
        self.pool = pool
        name = target.backend.name
        self.served_by = f"x-pointsman-backend: {name}\r\nx-pointsman-model: {target.model}\r\n".encode()
        """The header lines that say who served."""
        self.served_at_once = self.served_by + f'server-timing: pm-1;desc="{name}";dur='.encode()
        """The same for a first attempt, with its time but for the figure."""


class Entry:
    """A model name that clients may ask for, or what its route is for the requests of one rule."""

    __slots__ = ("_rules", "_seats", "_tier", "first", "name", "route")

    def __init__(
        self,
        name: str,
        route: Route,
        tier: Tier | None,
        seats: tuple[Lane, ...],
        rules: tuple[tuple[Match, Entry], ...],
    ) -> None:
        self.name = name
        """The route's own word for it: a pattern where it is a pattern that matches."""
        self.route = route
        self.first = seats[0] if len(seats) == 1 and tier is not None and not tier.choosy and not rules else None
        """Where its requests go while nothing stands in the way; None when that depends on more."""
        self._tier = tier
        self._seats = seats
        self._rules = rules

    def choose(self, request: Features, now: float) -> Lane | None:
        """Where this request goes while nothing stands in the way; None when `order` must say."""
        for match, entry in self._rules:
            if match.holds(request):
                return entry.choose(request, now)
        if self._tier is None or not self._seats:
            return None
        return first_choice(self._tier, self._seats, request, now)


class Roster:
    """Lanes and pools are made when they are first wanted: a table of thousands costs little."""

    def __init__(
        self, table: RoutingTable, health: HealthBook, dialer: Dialer, limits: Limits, clock: Callable[[], float]
    ) -> None:
        self.table = table
        self._health = health
        self._dialer = dialer
        self._limits = limits
        self._clock = clock
        self._entries: dict[str, Entry] = {}
        self._lanes: dict[tuple[int, str], Lane] = {}
        """By the target itself: the same model of the same backend is another target, in another place, elsewhere."""
        self._pools: dict[str, EndpointPool] = {}

    def succeed(self, before: Roster) -> None:
        """Takes over the connections of `before` to endpoints that did not change; the others are closed as soon as
        nobody uses them."""
        present = set()
        for backend in self.table.backends.values():
            for endpoint in backend.endpoints:
                present.add(endpoint.key)
                old = before._pools.get(endpoint.key)
                if old is not None and old.leads_to(backend, endpoint):
                    self._pools[endpoint.key] = old
        for key, pool in before._pools.items():
            if self._pools.get(key) is not pool:
                pool.close(gone=key not in present)

    def entry(self, model: str) -> Entry | None:
        """None when no route has that name."""
        entry = self._entries.get(model)
        if entry is None:
            found = self.table.find(model)
            if found is None:
                return None
            name, route = found
            if name != model and len(self._entries) >= NAMES_KEPT:
                self._entries.clear()  # whoever makes up names must not fill the memory
            entry = self._entries[model] = self._entry(name, route)
        return entry

    def lane(self, target: Target, endpoint: Endpoint) -> Lane:
        key = (id(target), endpoint.key)  # the lane keeps its target alive
        lane = self._lanes.get(key)
        if lane is None:
            # The endpoint may be gone from the book already, for a request that started before it went.
            machine = self._health.machine(endpoint.key) or EndpointMachine(thresholds(target.backend), self._clock())
            lane = self._lanes[key] = Lane(target, endpoint, machine, self.pool(target.backend, endpoint))
        return lane

    def sweep(self, now: float) -> None:
        for pool in self._pools.values():
            pool.sweep(now)

    def close(self) -> None:
        for pool in self._pools.values():
            pool.close(gone=True)

    def _entry(self, name: str, route: Route) -> Entry:
        rules = tuple((rule.match, self._entry(name, rule.route)) for rule in route.rules)
        if not route.tiers or any(b.rank < route.tiers[0].rank for b in route.broken):
            return Entry(name, route, None, (), rules)
        tier = route.tiers[0]
        seats = tuple(self.lane(t, e) for t in tier.targets for e in t.backend.endpoints)
        return Entry(name, route, tier, seats, rules)

    def pool(self, backend: Backend, endpoint: Endpoint) -> EndpointPool:
        pool = self._pools.get(endpoint.key)
        if pool is None:
            pool = EndpointPool(backend, endpoint, self._dialer, self._limits, self._clock)
            self._pools[endpoint.key] = pool
        return pool
