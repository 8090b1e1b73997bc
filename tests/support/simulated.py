"""Simulated backends for tests of the gateway, with what they saw, and gates that hold their answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from pointsman.api.objects import LLMBackend
from pointsman.simulator.backend import SimulatedBackend
from pointsman.simulator.behaviour import Behaviour, says
from pointsman.simulator.connection import Connection, Request


class Simulated(SimulatedBackend):
    """Runs a script, one behaviour a request, the last for ever. `script` is changed freely while it runs."""

    def __init__(self, label: str, script: Sequence[Behaviour]) -> None:
        super().__init__(label, ("m",), patience=0.3)
        self.script = script or (says,)
        self.seen: list[Request] = []
        self.now = 0
        """Requests being answered."""
        self.most = 0
        """The most at once so far."""
        self.changed = asyncio.Condition()
        self.choose = self._next

    def _next(self, request: Request) -> Behaviour:
        self.seen.append(request)
        chosen = self.script[min(len(self.seen), len(self.script)) - 1]

        async def counted(connection: Connection, request: Request) -> None:
            self.now += 1
            self.most = max(self.most, self.now)
            await self._tell()
            try:
                await chosen(connection, request)
            finally:
                self.now -= 1
                await self._tell()

        return counted

    async def _tell(self) -> None:
        async with self.changed:
            self.changed.notify_all()

    async def until(self, true: Callable[[], bool], seconds: float = 30.0) -> None:
        """Waits until a request that came or ended makes it so."""
        async with asyncio.timeout(seconds), self.changed:
            await self.changed.wait_for(true)

    def backend(self, **spec: Any) -> LLMBackend:
        """The LLMBackend that leads here, named as the label."""
        options = {"url": f"http://127.0.0.1:{self.port}/v1"}
        body = {"engine": "External", "external": options, "models": [{"name": "m"}], **spec}
        return LLMBackend.parse({"metadata": {"name": self.label}, "spec": body})


@asynccontextmanager
async def simulated(label: str, *script: Behaviour) -> AsyncIterator[Simulated]:
    backend = Simulated(label, script)
    await backend.start("127.0.0.1", 0)
    try:
        yield backend
    finally:
        await backend.refuse()


class Gate:
    """A behaviour that answers well as soon as it is opened. `let` lets some pass."""

    def __init__(self, then: Behaviour = says) -> None:
        self._pass = asyncio.Semaphore(0)
        self._then = then

    def let(self, requests: int = 1) -> None:
        for _ in range(requests):
            self._pass.release()

    async def __call__(self, connection: Connection, request: Request) -> None:
        await self._pass.acquire()
        await self._then(connection, request)
