"""What changes: events for reports and whoever follows.

Decided here: the values. Not here: what becomes of them (`metrics.py`, `admin.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

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


@dataclass(frozen=True)
class Wanted:
    """A request would have gone to a backend that has no pod; said once until it has one."""

    backend: str


Event = HealthChanged | FellBack | TableChanged | Wanted
