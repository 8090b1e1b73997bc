"""Looking for model servers on their usual ports, again and again.

Decided here: what is asked of a port and when. Not here: what an answer means and what becomes of it (`findings.py`).

A port is asked for `/v1/models` first, which all of them know, and only when its owner does not tell who it is for
Ollama's `/api/version`: some servers complain in their log about paths that they do not have. No credential is sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import msgspec

from pointsman.gateway.probes.cheap import LIST_LIMIT
from pointsman.gateway.probes.client import open_session, read_body
from pointsman.gateway.sources.findings import (
    USUAL_PORTS,
    Finding,
    Kind,
    Sighting,
    asked_as,
    is_ours,
    kind_of,
    listed,
    remember,
    usable,
    with_found,
)
from pointsman.gateway.sources.manifests import Manifests

_log = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
LOOK_SECONDS = 10.0
ANSWER_SECONDS = 2.0
_SHOWN = 12
"""Names in a sentence."""


@dataclass(frozen=True)
class Places:
    """Where to look."""

    hosts: tuple[str, ...] = (LOOPBACK,)
    ports: tuple[int, ...] = tuple(USUAL_PORTS.values())
    own: frozenset[int] = field(default=frozenset())
    """Ports of this gateway on this machine."""

    def addresses(self) -> list[tuple[str, int]]:
        """Each place once, in order."""
        found = ((h, p) for h in self.hosts for p in self.ports if not (p in self.own and h in (LOOPBACK, "localhost")))
        return list(dict.fromkeys(found))


class Discovery:
    """What stands where, as of the last look."""

    def __init__(
        self,
        places: Places,
        *,
        known: Iterable[Sighting] = (),
        clock: Callable[[], float] = time.monotonic,
        interval: float = LOOK_SECONDS,
    ) -> None:
        self.places = places
        self.known = tuple(known)
        self._clock = clock
        self._interval = interval
        self._asked = asyncio.Event()

    @property
    def findings(self) -> tuple[Finding, ...]:
        return tuple(s.finding for s in self.known)

    def extend(self, manifests: Manifests, before: Manifests) -> Manifests:
        """For `FileSource`."""
        return with_found(self.findings, self.places.hosts, manifests, before)

    async def look(self) -> bool:
        """Looks once; True when something else is there than before."""
        before = self.findings
        async with open_session() as session:
            found = await asyncio.gather(*(find(session, host, port) for host, port in self.places.addresses()))
        self.known = remember(self.known, [f for f in found if f is not None], self._clock())
        return self.findings != before

    def soon(self) -> None:
        """Looks again at once (SIGHUP)."""
        self._asked.set()

    async def run(self, changed: Callable[[], None]) -> None:
        """Looks until cancelled, and calls `changed` when something else is there."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._asked.wait(), self._interval)
            self._asked.clear()
            if await self.look():
                _log.info(sentence(self.findings, self.places))
                changed()


async def find(session: aiohttp.ClientSession, host: str, port: int) -> Finding | None:
    """Who answers there; None when nobody does that we know. Never raises but for a bug."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return await _find(session, host, port)
    except (TimeoutError, aiohttp.ClientError, OSError, ValueError):
        return None


async def _find(session: aiohttp.ClientSession, host: str, port: int) -> Finding | None:
    base = f"http://{host}:{port}"
    status, server, body = await _get(session, f"{base}/v1/models")
    if status in (401, 403):
        return Finding(Kind.OTHER, host, port, (), locked=True)
    entries = listed(body) if status == 200 else None
    if entries is not None and is_ours(entries):
        return None
    names = [str(m["id"]) for m in entries or ()]
    kind = kind_of(entries, server) if entries is not None else None
    if kind is None:
        status, _, body = await _get(session, f"{base}/api/version")
        if status == 200 and isinstance(body, dict) and isinstance(body.get("version"), str):
            status, _, body = await _get(session, f"{base}/api/tags")
            tags = body.get("models") if status == 200 and isinstance(body, dict) else None
            if isinstance(tags, list):
                kind, names = Kind.OLLAMA, [str(m.get("name")) for m in tags if isinstance(m, dict)]
    if kind is None and names:
        kind = Kind.OTHER
    return None if kind is None else Finding(kind, host, port, usable(names))


async def _get(session: aiohttp.ClientSession, url: str) -> tuple[int, str, Any]:
    """Status, Server header and body, if it is JSON. Raises `aiohttp.ClientError` and `OSError`."""
    async with session.get(url, allow_redirects=False) as response:
        data = await read_body(response, LIST_LIMIT)
        try:
            body = msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            body = None
        return response.status, response.headers.get("Server", ""), body


def sentence(findings: Sequence[Finding], places: Places) -> str:
    """What was found, in a line for people; what to do when nothing was."""
    locked = [f.address for f in findings if f.locked]
    hint = f"; {', '.join(locked)} wants an API key: name it in an LLMBackend of your own" if locked else ""
    servers = [f for f in findings if not f.locked]
    if not servers:
        *some, last = sorted({kind.value for kind in USUAL_PORTS}, key=str.lower)
        where, seconds = ", ".join(places.hosts), f"{LOOK_SECONDS:g}"
        return (
            f"found no {', '.join(some)} or {last} on {where}: start one, such as `ollama serve`;"
            f" they are looked for every {seconds} s{hint}"
        )
    shown = ", ".join(f"{f.kind.value} on {f.address} ({_count(len(f.models), 'model')})" for f in servers)
    names = sorted({asked_as(f, model) for f in servers for model in f.models})
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    if not names:
        return f"found {shown}: load a model there{hint}"
    return f"found {shown}; to ask for: {', '.join(names[:_SHOWN])}{more}{hint}"


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"
