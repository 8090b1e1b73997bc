"""A gateway with one route over two backends, for clients that come from outside."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from tests.clients.backends import Backend, backend
from tests.support.running_gateway import Running, external, gateway, route, table

from pointsman.domain.table import RoutingTable

TIMEOUTS = {"connect": "10s", "firstToken": "30s", "answer": "30s", "idle": "30s", "total": "60s"}


@dataclass
class Line:
    first: Backend
    second: Backend
    gateway: Running

    @property
    def url(self) -> str:
        """What clients take as their base URL."""
        return f"http://127.0.0.1:{self.gateway.port}/v1"

    def forget(self) -> None:
        """What the gateway has learnt about the backends."""
        compiled = self.gateway.state.table
        self.gateway.state.set_table(RoutingTable())
        self.gateway.state.set_table(compiled)

    def both_fail(self, status: int, message: str = "boom", code: str = "") -> None:
        self.first.fails(status, message, code)
        self.second.fails(status, message, code)


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    async with backend("first") as first, backend("second") as second:
        backends = [external("first", first.url), external("second", second.url)]
        async with gateway(table(backends, [route("first", "second", timeouts=TIMEOUTS)])) as running:
            yield Line(first, second, running)
