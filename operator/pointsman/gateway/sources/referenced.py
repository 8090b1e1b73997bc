"""Watching exactly the Secrets and ConfigMaps that backends name: one watch each, since the gateway's Role names them.

Decided here: whom to watch, and how long the first answer is awaited. Not here: what a value means (`resources.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping

from pointsman.domain.references import References
from pointsman.domain.table import SecretValue
from pointsman.gateway.sources.resources import Object, config_map_value, secret_value
from pointsman.kube.connect import Connection
from pointsman.kube.reflector import Items, Reflector, Selection

FIRST_ANSWER_SECONDS = 2.0
"""The first answer about a newly named object is awaited for so long."""

Read = Callable[[Object, SecretValue | None], SecretValue]


class Referenced:
    """`follow` whenever the backends may name others; `close` in the end."""

    def __init__(self, connection: Connection, namespace: str, changed: Callable[[Items], None]) -> None:
        self._secrets = _Watched(connection, namespace, "secrets", secret_value, changed)
        self._config_maps = _Watched(connection, namespace, "configmaps", config_map_value, changed)

    async def follow(self, named: References) -> None:
        """Returns when something is known of each, or the patience is over."""
        fresh = [*self._secrets.follow(named.secrets), *self._config_maps.follow(named.config_maps)]
        if fresh:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FIRST_ANSWER_SECONDS):
                    for attempted in fresh:
                        await attempted.wait()

    def secrets(self) -> Mapping[str, SecretValue]:
        """Those that exist, by name."""
        return self._secrets.values()

    def config_maps(self) -> Mapping[str, SecretValue]:
        return self._config_maps.values()

    async def close(self) -> None:
        tasks = [*self._secrets.stop(), *self._config_maps.stop()]
        await asyncio.gather(*tasks, return_exceptions=True)


class _Watched:
    """The named objects of one kind."""

    def __init__(
        self, connection: Connection, namespace: str, plural: str, read: Read, changed: Callable[[Items], None]
    ) -> None:
        self._connection = connection
        self._namespace = namespace
        self._plural = plural
        self._read = read
        self._changed = changed
        self._values: dict[str, SecretValue] = {}
        self._watches: dict[str, tuple[Reflector, asyncio.Task[None]]] = {}

    def follow(self, named: frozenset[str]) -> list[asyncio.Event]:
        """Begins and ends watches; what it gives is set when something is known of a new one."""
        for name in self._watches.keys() - named:
            self._watches.pop(name)[1].cancel()
            self._values.pop(name, None)
        fresh = []
        for name in named - self._watches.keys():
            selection = Selection("", "v1", self._plural, self._namespace, fields=f"metadata.name={name}")
            reflector = Reflector(self._connection, selection, self._changed, last_backoff=2.0)
            self._watches[name] = (reflector, asyncio.create_task(reflector.run()))
            fresh.append(reflector.attempted)
        return fresh

    def values(self) -> Mapping[str, SecretValue]:
        values = {}
        for name, (reflector, _) in self._watches.items():
            body = reflector.items.get(name)
            if body is not None:
                values[name] = self._read(body, self._values.get(name))
        self._values = values
        return values

    def stop(self) -> list[asyncio.Task[None]]:
        tasks = [task for _, task in self._watches.values()]
        for task in tasks:
            task.cancel()
        return tasks
