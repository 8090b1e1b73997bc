"""The backends of a run, in a process of their own: `python -m tests.faults.backends FOLDER SEED`.

Writes their ports to `FOLDER/ports.json`, and everything that happened to `arrivals.jsonl` and `downs.jsonl`. Ends at
SIGTERM.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import uvloop
from tests.faults.fate import Fate
from tests.faults.faults import Fault
from tests.faults.values import Arrival, Down, answer_text, checksum, write
from tests.faults.world import FAULTY, NO_TLS, PATIENCE, SAFE, World

from pointsman.simulator.backend import SimulatedBackend
from pointsman.simulator.behaviour import Behaviour
from pointsman.simulator.connection import Connection, Request

ROUGH = (0.2, 0.3, 0.35, 0.4, 1.0)
"""Chances of a fault, one of which rules at a backend for a while. Calm follows: an endpoint that fails so often is
taken out, and gets back in only when it does well again."""
CALM = (0.0, 0.01, 0.02)
SPELL = (10, 250)
"""Arrivals for which a weather rules, and seconds at most."""
SPELL_SECONDS = (0.3, 1.5)
DOWN_CHANCE = 0.15
"""That a rough spell ends with an outage."""
DOWN_SECONDS = (0.2, 0.8)


class Recorded:
    """One backend, its weather and its book."""

    def __init__(self, run: Run, name: str) -> None:
        self.name = name
        self._run = run
        self._draw = random.Random(f"{run.seed}/weather/{name}")
        self._badness = 0.0
        self._spell = 50
        self._until = 0.0
        self.down: asyncio.Task[None] | None = None
        self.backend = SimulatedBackend(name, tuple(run.world.routes), PATIENCE)
        self.backend.hasty = self._hasty
        self.backend.choose = lambda request: self._recorded(self._fates.pop(id(request)), request)
        self.backend.speaks = lambda request: answer_text(name, _id(request), self._numbers[id(request)])
        self._fates: dict[int, Fault] = {}
        self._numbers: dict[int, int] = {}

    def _hasty(self, request: Request) -> Behaviour | None:
        """Before the body is read: who it is and what it wants stand in the headers."""
        self._numbers[id(request)] = next(self._run.numbers)
        fault = self._fault(_id(request), "event-stream" in request.headers.get("accept", ""))
        if fault.hasty:
            return self._recorded(fault, request)
        self._fates[id(request)] = fault
        return None

    def _fault(self, request: str, stream: bool) -> Fault:
        run = self._run
        run.seen[self.name, request] += 1
        nth = run.seen[self.name, request]
        if self.name == SAFE:
            return run.fate.good(self.name, request, nth, stream)
        self._spell -= 1
        if self._spell <= 0 or time.monotonic() > self._until:
            self._change_weather()
        return run.fate.fault(self.name, request, nth, stream, self._badness)

    def _change_weather(self) -> None:
        rough = self._badness in ROUGH
        self._badness = self._draw.choice(CALM if rough else ROUGH)
        self._spell = self._draw.randint(*SPELL)
        self._until = time.monotonic() + self._draw.uniform(*SPELL_SECONDS)
        if rough and self._draw.random() < DOWN_CHANCE and self.down is None:
            self.down = asyncio.create_task(self._go_down(self._draw.uniform(*DOWN_SECONDS)))

    async def _go_down(self, seconds: float) -> None:
        at = time.monotonic()
        await self.backend.refuse()
        await asyncio.sleep(seconds)
        await self.backend.listen_again()
        self._run.downs.append(Down(self.name, at, time.monotonic()))
        self.down = None

    def _recorded(self, fault: Fault, request: Request) -> Behaviour:
        async def behave(connection: Connection, request: Request) -> None:
            at = time.monotonic()
            how = "done"
            try:
                await fault.behave(connection, request)
            except asyncio.CancelledError:
                how = "killed"
                raise
            except ConnectionError:
                how = "left"
                raise
            finally:
                number = self._numbers.pop(id(request))
                body = request.json if request.body else {}
                self._run.arrivals.append(
                    Arrival(
                        self.name, number, _id(request), str(body.get("model", "")), fault.name,
                        "event-stream" in request.headers.get("accept", ""), request.reused, request.wants_usage,
                        not request.body or _intact(body), at, time.monotonic(), how,  # type: ignore[arg-type]
                    )
                )  # fmt: skip

        return behave


class Run:
    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.seed = seed
        self.world = World(seed)
        self.fate = Fate(seed)
        self.numbers = itertools.count()
        self.seen: Counter[tuple[str, str]] = Counter()
        self.arrivals: list[Arrival] = []
        self.downs: list[Down] = []

    async def go(self) -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        backends = [Recorded(self, name) for name in (*FAULTY, SAFE)]
        ports = {}
        for one in backends:
            await one.backend.start("127.0.0.1", 0)
            ports[one.name] = one.backend.port
        deaf = await asyncio.start_server(_no_tls, "127.0.0.1", 0)
        ports[NO_TLS] = int(deaf.sockets[0].getsockname()[1])
        (self.folder / "ports.new").write_text(json.dumps(ports))
        (self.folder / "ports.new").rename(self.folder / "ports.json")
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), 1.0)
            self._write()
        for one in backends:
            if one.down is not None:
                await one.down
            await one.backend.refuse()
        deaf.close()
        self._write()

    def _write(self) -> None:
        arrivals, self.arrivals = self.arrivals, []
        downs, self.downs = self.downs, []
        write(self.folder / "arrivals.jsonl", arrivals)
        write(self.folder / "downs.jsonl", downs)


async def _no_tls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"this is no TLS\r\n")
    writer.close()


def _id(request: Request) -> str:
    return request.headers.get("x-request-id", "")


def _intact(body: dict[str, object]) -> bool:
    """Is everything there that the client summed up?"""
    return body.get("user") == checksum(body.get("messages"), body.get("stream"))


if __name__ == "__main__":
    uvloop.run(Run(Path(sys.argv[1]), int(sys.argv[2])).go())
