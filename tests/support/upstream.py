"""A simulated backend that follows a script, a behaviour for each request and the last for ever, and records it all."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence

from pointsman.simulator import behaviour
from pointsman.simulator.backend import SimulatedBackend
from pointsman.simulator.behaviour import Behaviour
from pointsman.simulator.connection import Connection, Request

SECONDS = 1.0
"""A `Pause(0.2)` is 0.2 s here."""


def says(text: str) -> Behaviour:
    """A good backend that answers `text`."""

    async def behave(connection: Connection, request: Request) -> None:
        request.answer = text
        await behaviour.says(connection, request)

    return behave


class Upstream:
    """`script` is changed freely while it runs."""

    def __init__(self, script: Sequence[Behaviour] = ()) -> None:
        self.script = script
        self.seen: list[Request] = []
        self._backend = SimulatedBackend("simulated", ("m",), SECONDS)
        self._backend.choose = self._choose
        self._asked = asyncio.Event()

    async def start(self, port: int = 0, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> Upstream:
        await self._backend.start(host, port, tls)
        return self

    @property
    def port(self) -> int:
        return self._backend.port

    @property
    def connections(self) -> int:
        return self._backend.connections

    @property
    def talking(self) -> int:
        """Connections that are open."""
        return self._backend.talking

    @property
    def left(self) -> int:
        """Requests whose answer the other side did not wait for."""
        return sum(request.left.is_set() for request in self.seen)

    async def asked(self) -> None:
        """Until the first request came."""
        await asyncio.wait_for(self._asked.wait(), 30)

    async def stop(self) -> None:
        """Refuses connections from now on, and drops those there are."""
        await self._backend.refuse()

    def _choose(self, request: Request) -> Behaviour:
        self.seen.append(request)
        self._asked.set()
        return self.script[min(len(self.seen), len(self.script)) - 1]
