"""A small informer: one kind of one namespace, listed once, then watched; the cache is plain dicts by name.

Decided here: when to list again, how long to wait after an error. Not here: how a request is made (`connect.py`) and
what the objects mean.

Invariants:
- `items` never goes back in time within one connection, and loses nothing for good: whatever breaks, the next list
  replaces the whole cache (a deletion during a gap is noticed by the absence).
- The cache survives an API server that is away. Nobody is told of a change that was not seen.
- A connection on which nothing arrives for a while is opened again, without a word: a watch that a middlebox forgot
  looks exactly like a quiet one.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pointsman.kube.connect import WATCH_SILENCE_SECONDS, ApiError, Connection, Gone, Unreachable

_log = logging.getLogger(__name__)

PAGE = 500
"""Objects of one list request."""
FIRST_BACKOFF_SECONDS = 0.1
LAST_BACKOFF_SECONDS = 8.0
"""Less than half of the promised 25 s to catch up after the API server's return."""
_LIVED_SECONDS = 5.0
"""A watch that lived this long may be opened again at once."""

Object = dict[str, Any]
Items = Mapping[str, Object]


@dataclass(frozen=True)
class Selection:
    """What to watch: a kind in one namespace, narrowed by selectors. `group` is empty for the core API."""

    group: str
    version: str
    plural: str
    namespace: str
    labels: str = ""
    fields: str = ""

    @property
    def path(self) -> str:
        base = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        return f"{base}/namespaces/{self.namespace}/{self.plural}"

    @property
    def params(self) -> dict[str, str]:
        both = {"labelSelector": self.labels, "fieldSelector": self.fields}
        return {k: v for k, v in both.items() if v}

    def __str__(self) -> str:
        narrowed = f" ({self.labels or self.fields})" if self.labels or self.fields else ""
        return f"{self.plural} in {self.namespace}{narrowed}"


def for_many_watches(connection: Connection) -> Connection:
    """The same API server with a session of its own that opens as many connections as there are watches; close it
    beside the first."""
    return replace(connection, session=connection.open_session(0))


class Reflector:
    """Keeps `items` equal to what the API server holds. `run` it as a task; cancel the task to end it.

    `on_change` is called in the event loop with the whole cache after each list and after each event; it must neither
    block nor change what it is given. `keep` gives the part of an object that is kept: the whole, unless there is one.
    """

    def __init__(
        self,
        connection: Connection,
        selection: Selection,
        on_change: Callable[[Items], None],
        *,
        keep: Callable[[Object], Object] = lambda body: body,
        silence: float = WATCH_SILENCE_SECONDS,
        last_backoff: float = LAST_BACKOFF_SECONDS,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._connection = connection
        self._selection = selection
        self._on_change = on_change
        self._keep = keep
        self._silence = silence
        self._last_backoff = last_backoff
        self._jitter = jitter
        self._version = ""
        self._failures = 0
        self.items: dict[str, Object] = {}
        self.lists = 0
        """Lists that came in whole since the start."""
        self.synced = asyncio.Event()
        """Set when the first list is in."""
        self.attempted = asyncio.Event()
        """Set when the first list has come in or has failed."""

    async def run(self) -> None:
        """Runs until cancelled; never raises otherwise."""
        while True:
            started = time.monotonic()
            try:
                if not self._version:
                    await self._list()
                await self._watch()
                broke = False
            except Exception as error:  # the boundary: whatever a connection does, the informer lives on
                broke = True
                self._explain(error)
            if not broke and time.monotonic() - started > _LIVED_SECONDS:
                self._failures = 0
                continue
            self._failures += 1
            self.attempted.set()
            await asyncio.sleep(self._backoff())

    def _backoff(self) -> float:
        """Seconds to wait after `_failures` failures in a row: doubling, with jitter from half to the whole."""
        wait = min(self._last_backoff, FIRST_BACKOFF_SECONDS * 2.0 ** min(self._failures - 1, 16))
        return wait * (0.5 + 0.5 * self._jitter())

    def _explain(self, error: Exception) -> None:
        """Says once in a while what is wrong, and decides whether to go on where it was or to begin from a list."""
        if isinstance(error, Gone):
            self._version = ""
            _log.info("listing %s again: the watch is too old", self._selection)
            return
        if not isinstance(error, Unreachable) or self._failures >= 3:
            self._version = ""
        level = logging.WARNING if self._failures in (0, 6) else logging.DEBUG
        known = isinstance(error, ApiError)
        _log.log(level, "watching %s failed, trying again: %s", self._selection, error, exc_info=not known)

    async def _list(self) -> None:
        """Replaces the cache. Raises `ApiError`."""
        items: dict[str, Object] = {}
        params = {**self._selection.params, "limit": str(PAGE)}
        while True:
            body = await self._connection.request("GET", self._selection.path, params=params)
            items.update((item["metadata"]["name"], self._keep(item)) for item in body.get("items") or ())
            more = body["metadata"].get("continue")
            if not more:
                break
            params["continue"] = more
        self._version = body["metadata"]["resourceVersion"]
        self._failures = 0
        self.items = items
        self.lists += 1
        self._on_change(items)
        self.synced.set()
        self.attempted.set()

    async def _watch(self) -> None:
        """Follows events until the connection ends. Raises `ApiError`."""
        params = {**self._selection.params, "timeoutSeconds": str(int(240 + 60 * self._jitter()))}
        events = self._connection.watch(
            self._selection.path, resource_version=self._version, params=params, silence=self._silence
        )
        async for event in events:
            kind, body = event["type"], event["object"]
            self._version = body["metadata"]["resourceVersion"]
            self._failures = 0
            if kind == "BOOKMARK":
                continue
            name = body["metadata"]["name"]
            if kind == "DELETED":
                self.items.pop(name, None)
            else:
                self.items[name] = self._keep(body)
            self._on_change(self.items)
