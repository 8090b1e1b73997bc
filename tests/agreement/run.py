"""Explains a request, sends it, and compares; one after another, for the state must not change between the two.

What changes it all the same is told apart: a check of the gateway's, or a pause that ends, just then. Such requests are
counted and not judged.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import time
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from tests.agreement.world import BACKENDS, LACKING, MODELS, ROUTES, Request, manifests, previous, request
from tests.faults.run import Events
from tests.gateway.operations.asking import completed, created, delta, refuses, response, vectors, whole
from tests.support.gateway_process import GatewayProcess, gateway_process
from tests.support.raw_client import RawClient

from pointsman.conform.answer_scenarios import CALLER, DENIED, LIMIT, LOADING, NO_MODEL, OVERFLOW
from pointsman.simulator import connection as wire
from pointsman.simulator.backend import SimulatedBackend
from pointsman.simulator.behaviour import Act, Behaviour, Words, answers, says, sends, streams
from pointsman.simulator.openai_bytes import DONE, FINISH, ROLE, error

UNABLE = answers(400, OVERFLOW)
"""Passed over, and nothing is remembered of it."""
FAULTS: tuple[tuple[Behaviour, int], ...] = (
    (answers(500, error("CUDA error: out of memory")), 8),
    (sends(b"SSH-2.0-OpenSSH_9.7\r\n\r\n", Act.CUT), 4),
    (answers(429, LIMIT, "application/json", "retry-after: 1"), 6),
    (answers(429, LIMIT), 6),
    (answers(503, LOADING), 2),
    (answers(404, NO_MODEL), 1),
    (answers(401, DENIED), 1),
    (UNABLE, 4),
)
NOT_KEPT = refuses(400, "Previous response not found.", "previous_response_not_found")
NO_SUCH_PATH = whole({"detail": "Not Found"}, 404)
EMBEDS = whole(vectors([0.5, 1.0]))
KEPT = 200
"""Of the responses that were given, the last so many may be continued."""
PAUSE = 0.002
"""Seconds between two requests: pauses of backends end by time, and should end before too many requests met them."""
HELD = 6
"""Streams that are kept open, so that backends have something in flight."""
NEAR = 0.15
"""Seconds: a pause that ends so soon may be over when the request comes."""


@dataclass
class Outcome:
    """`judged` requests by what was compared."""

    requests: int
    seconds: float = 0.0
    judged: Counter[str] = field(default_factory=Counter)
    changed: int = 0
    """Requests that met a change of state between the two: not judged."""
    findings: list[str] = field(default_factory=list)
    places: Counter[str] = field(default_factory=Counter)
    barred: Counter[str] = field(default_factory=Counter)
    strategies: Counter[str] = field(default_factory=Counter)
    operations: Counter[str] = field(default_factory=Counter)


@dataclass
class Compared:
    """A request, as it was explained and as it went."""

    kind: str
    """What was compared."""
    right: bool
    wanted: list[tuple[str, str]]
    went: list[tuple[str, str]]


class Backends:
    """Eight backends; each attempt gets the next behaviour of the plan."""

    def __init__(self) -> None:
        self.arrivals: list[tuple[str, str]] = []
        """(backend, model) of each attempt of the request that is under way."""
        self.plan: list[Behaviour] = []
        self.release = asyncio.Event()
        self._numbers = itertools.count()
        self._keepers: dict[str, str] = {}
        self.all = {name: SimulatedBackend(name, MODELS, 1.0) for name in BACKENDS}
        for name, backend in self.all.items():
            backend.choose = lambda r, name=name: self._choose(name, r)  # type: ignore[misc]

    def _choose(self, name: str, request: wire.Request) -> Behaviour:
        if request.headers["x-request-id"].startswith("held"):
            return self._hold
        self.arrivals.append((name, str(request.json["model"])))
        if name in LACKING.get(request.path, ()):
            return NO_SUCH_PATH
        planned = self.plan[min(len(self.arrivals), len(self.plan)) - 1]
        if planned is not says or request.path == "/v1/chat/completions":
            return planned
        return EMBEDS if request.path == "/v1/embeddings" else self._responds(name, request)

    def _responds(self, name: str, request: wire.Request) -> Behaviour:
        asked = request.json
        continued = asked.get("previous_response_id")
        if continued is not None and self._keepers.get(continued) != name:
            return NOT_KEPT
        answer_id = f"resp_{next(self._numbers)}"
        if asked.get("store", True):
            self._keepers[answer_id] = name
        said = previous(continued) if continued is not None else {}
        if not asked.get("stream"):
            return whole(response("yes", answer_id, **said))
        return streams(created(answer_id, **said), delta("yes"), completed("yes", answer_id, **said), Act.END)

    async def _hold(self, connection: wire.Connection, request: wire.Request) -> None:
        await streams(ROLE, Words(2))(connection, request)
        await self.release.wait()
        for piece in (FINISH, DONE):
            await connection.chunk(
                b"data: " + (piece if isinstance(piece, bytes) else json.dumps(piece).encode()) + b"\n\n"
            )
        await connection.end_stream()

    @property
    def down(self) -> set[str]:
        return {name for name, backend in self.all.items() if not backend.listening}


class Run:
    def __init__(self, seed: int, gateway: GatewayProcess, backends: Backends, events: Events, requests: int) -> None:
        self._seed = seed
        self._draw = random.Random(f"{seed}/run")
        self._gateway = gateway
        self._backends = backends
        self._events = events
        self._held: list[asyncio.Task[None]] = []
        self._kept: deque[tuple[str, str]] = deque(maxlen=KEPT)
        """Responses that can be continued, each with the name that was asked for."""
        self.outcome = Outcome(requests)

    async def go(self, http: aiohttp.ClientSession) -> Outcome:
        began = time.monotonic()
        async with self._connection() as client:
            for number in range(self.outcome.requests):
                await asyncio.sleep(PAUSE)
                await self._disturb(http)
                await self._one(http, client, self._continued(request(self._seed, number)))
        await self._let_go()
        self.outcome.seconds = time.monotonic() - began
        return self.outcome

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[RawClient]:
        port = int(self._gateway.url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
        yield RawClient(reader, writer)
        writer.close()

    # ---- what changes the state

    async def _disturb(self, http: aiohttp.ClientSession) -> None:
        draw = self._draw
        chance = draw.random()
        if chance < 0.004:
            await draw.choice(list(self._backends.all.values())).refuse()
        elif chance < 0.02:
            for name in self._backends.down:
                await self._backends.all[name].listen_again()
        elif chance < 0.03:
            asked = {"route": f"r{draw.randrange(ROUTES)}", "backend": draw.choice(BACKENDS), "seconds": 0.5}
            async with http.post(f"{self._gateway.admin}/v1/drill", json=asked) as answer:
                assert answer.status in (200, 404, 409)
        elif chance < 0.06 and len(self._held) < HELD:
            await self._hold()
        elif chance < 0.065:
            await self._let_go()

    async def _hold(self) -> None:
        """A stream that stays open."""
        begun = asyncio.Event()

        async def held() -> None:
            async with self._connection() as client:
                body = json.dumps({"model": f"exact-{self._draw.randrange(ROUTES)}", "stream": True, "messages": []})
                await client.send(_bytes({"x-request-id": f"held-{id(begun)}"}, body.encode()))
                got = await client.receive(head_only=True)
                begun.set()
                if got.status == 200:
                    await client.reader.readuntil(b"0\r\n\r\n")

        task = asyncio.create_task(held())
        waiting = asyncio.create_task(begun.wait())
        await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED, timeout=10)
        waiting.cancel()
        self._held.append(task)

    async def _let_go(self) -> None:
        self._backends.release.set()
        for task in self._held:
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                await asyncio.wait_for(task, 60)
        self._held.clear()
        self._backends.release = asyncio.Event()

    # ---- one request

    def _continued(self, asked: Request) -> Request:
        """Half of the responses continue another, mostly for the same name."""
        draw = self._draw
        if asked.path != "/v1/responses" or not self._kept or draw.random() < 0.5:
            return asked
        answer_id, model = draw.choice(self._kept)
        return asked.continuing(answer_id, model if draw.random() < 0.9 else asked.model)

    async def _one(self, http: aiohttp.ClientSession, client: RawClient, asked: Request) -> None:
        draw = self._draw
        backends = self._backends
        kind = draw.choices(("every one unable", "good", "faults"), (6, 3, 2))[0]
        if kind == "every one unable":
            backends.plan = [UNABLE]
        elif kind == "good":
            backends.plan = [says]
        else:
            faults = draw.choices([f for f, _ in FAULTS], [w for _, w in FAULTS], k=draw.randint(1, 5))
            backends.plan = [*faults, answers(400, CALLER)]
        backends.arrivals.clear()
        down = backends.down
        began = time.monotonic()
        told = await self._explained(http, asked)
        await client.send(_bytes(asked.headers, asked.body, asked.path))
        got = await client.receive()
        if asked.path == "/v1/responses" and got.status == 200 and json.loads(asked.body).get("store", True):
            said = got.events[-1]["response"] if got.headers["content-type"].startswith("text/event") else got.json
            self._kept.append((said["id"], asked.model))
        compared = self._compare(kind, asked, told, down)
        if not compared.right:
            # Once all events are here that the request brought about: did something change before it?
            count = (await self._explained(http, asked))["events"]
            await asyncio.wait_for(self._events.reached(count), 60)
            if self._changed(told, began):
                self.outcome.changed += 1
                return
        self._judge(compared, asked, told, got.status)

    async def _explained(self, http: aiohttp.ClientSession, asked: Request) -> dict[str, Any]:
        url = f"{self._gateway.admin}/v1/explain"
        async with http.post(url, data=asked.body, headers=asked.headers, params={"path": asked.path}) as answer:
            told: dict[str, Any] = await answer.json()
            assert answer.status == 200, told
        return told

    def _compare(self, kind: str, asked: Request, told: dict[str, Any], down: set[str]) -> Compared:
        wanted = [(c["backend"], c["upstreamModel"]) for c in told["candidates"] if c["backend"] not in down]
        places = [c["place"] for c in told["candidates"]]
        went = list(self._backends.arrivals)
        lacking = LACKING.get(asked.path, ())
        if "LeastBad" in places:
            # One attempt goes to the least bad.
            wanted, went = wanted[:1], went[:1]
        if lacking:
            # Who was just found not to know the operation is not asked at its other places.
            wanted, went = ([*all_[:1], *(one for one in all_[1:] if one[0] not in lacking)] for all_ in (wanted, went))
        if kind == "good":
            wanted = wanted[: 2 if wanted and wanted[0][0] in lacking else 1]
        right = went == wanted
        if kind == "faults" and went != wanted:
            right = went[:1] == wanted[:1]
            names = [b for b, _ in wanted]
            if len(set(names)) == len(names):
                # Who has been asked in vain may be asked once more in the end; or somebody's word was final. (Where one
                # backend has two places, its fault at the first may rightly change the second.)
                kind = "faults, distinct backends"
                right = right and went[: len(wanted)] == wanted[: len(went)]
        if told["candidates"] and not wanted and not right:
            # All refused: that is a change, and after it the least bad may be tried.
            right = len(went) <= 1
        return Compared(kind, right, wanted, went)

    def _judge(self, compared: Compared, asked: Request, told: dict[str, Any], status: int) -> None:
        outcome = self.outcome
        outcome.judged[compared.kind] += 1
        outcome.operations[asked.path] += 1
        places = [c["place"] for c in told["candidates"]]
        outcome.places.update(places[:1])
        outcome.barred.update(e["reason"] for e in told["excluded"])
        outcome.strategies[told["strategy"]] += 1
        if not compared.right:
            wanted, went = (" ".join("/".join(w) for w in all_) for all_ in (compared.wanted, compared.went))
            outcome.findings.append(
                f"{asked.id} ({compared.kind}, {asked.path}, {told['route']}, {told['strategy']}):"
                f" explained {wanted or 'nobody'}, went to {went or 'nobody'}, {status}; places {places};"
                f" left out {[(e['backend'], e['reason'], e['secondsLeft']) for e in told['excluded']]}"
            )

    def _changed(self, told: dict[str, Any], began: float) -> bool:
        if any(
            e["reason"] == "TooLong" and e["backend"] in {b for b, _ in self._backends.arrivals}
            for e in told["excluded"]
        ):
            return True  # it was busy as well, for who knows how long: the prompt is what is told
        if any(e["secondsLeft"] is not None and e["secondsLeft"] <= NEAR for e in told["excluded"]):
            return True
        return any(c.at >= began - 0.01 and c.reason not in ("Refused",) for c in self._events.changes[-20:])


def _bytes(headers: dict[str, str], body: bytes, path: str = "/v1/chat/completions") -> bytes:
    lines = [
        f"POST {path} HTTP/1.1", "host: gateway", "content-type: application/json",
        f"content-length: {len(body)}", *(f"{k}: {v}" for k, v in headers.items()),
    ]  # fmt: skip
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def run(folder: Path, seed: int, requests: int) -> Outcome:
    backends = Backends()
    for backend in backends.all.values():
        await backend.start("127.0.0.1", 0)
    try:
        (folder / "all.yaml").write_text(manifests(seed, {n: b.port for n, b in backends.all.items()}))
        async with gateway_process(folder) as gateway, aiohttp.ClientSession() as http:
            events = Events()
            reading = asyncio.create_task(events.follow(gateway.admin))
            await asyncio.wait_for(events.greeted.wait(), 60)
            outcome = await Run(seed, gateway, backends, events, requests).go(http)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            outcome.findings += [f"the gateway logged: {m['message']}" for m in gateway.messages("error")]
    finally:
        for backend in backends.all.values():
            await backend.refuse()
    return outcome
