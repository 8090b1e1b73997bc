"""The engines' side of the account: what each pod did with each request, as it says itself, line by line."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field


@dataclass
class Served:
    """One answer that a pod began. Unix seconds."""

    pod: str
    began: float
    ended: float | None = None
    cut: bool = False
    """It could not be brought to its end."""


@dataclass
class Ledger:
    """What all pods said."""

    port: int = 0
    of: dict[str, list[Served]] = field(default_factory=lambda: defaultdict(list))
    """By the request's name, in the order in which they were begun."""

    def open_at(self, pod: str, when: float) -> int:
        """How many answers a pod had under way."""
        return sum(
            s.pod == pod and s.began <= when and (s.ended is None or s.ended > when)
            for several in self.of.values()
            for s in several
        )

    def begun_after(self, pod: str, when: float) -> int:
        """How many answers a pod began after that."""
        return sum(s.pod == pod and s.began > when for several in self.of.values() for s in several)

    def cut(self) -> list[str]:
        """Requests whose answer a pod could not bring to its end."""
        return sorted(name for name, several in self.of.items() if any(s.cut for s in several))

    def note(self, line: str, now: float) -> None:
        """`POD begin|end|cut NAME`."""
        pod, what, name = line.split()
        if what == "begin":
            self.of[name].append(Served(pod, now))
            return
        served = next(s for s in reversed(self.of[name]) if s.pod == pod and s.ended is None)
        served.ended, served.cut = now, what == "cut"


@contextlib.asynccontextmanager
async def listening(host: str) -> AsyncIterator[Ledger]:
    """A ledger that pods reach at this address of the machine."""
    ledger = Ledger()

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):  # pods outlive the run
            async for line in reader:
                ledger.note(line.decode(), time.time())
        writer.close()

    server = await asyncio.start_server(hear, host, 0)
    ledger.port = int(server.sockets[0].getsockname()[1])
    try:
        yield ledger
    finally:
        server.close()
