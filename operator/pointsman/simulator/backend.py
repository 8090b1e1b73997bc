"""An OpenAI-compatible backend without an engine: it listens, lists its models, and behaves as it is told.

What a request for an answer gets is chosen by `choose`, request by request; lists and checks are always answered well,
as those of an engine that hangs are.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable

from pointsman.simulator.behaviour import Behaviour, says
from pointsman.simulator.connection import Connection, Request
from pointsman.simulator.openai_bytes import models

_LINE_LIMIT = 64 * 1024 * 1024


class SimulatedBackend:
    """`label` stands in every answer. Raises `OSError` from `start` when the address is taken."""

    def __init__(self, label: str, served: tuple[str, ...], patience: float) -> None:
        self.label = label
        self.served = served
        self.patience = patience
        """See `Request.patience`."""
        self.choose: Callable[[Request], Behaviour] = lambda request: says
        self.speaks: Callable[[Request], str] = lambda request: f"{label} one two three four five"
        """The text of a good answer."""
        self.hasty: Callable[[Request], Behaviour | None] = lambda request: None
        """What answers a request before its body was read; None, as usual, for nothing."""
        self.keeps: Callable[[Request], Behaviour | None] = lambda request: None
        """What answers a request for something that it keeps; None, as usual, for the list of models."""
        self.connections = 0
        """How many were accepted."""
        self.host = ""
        self.port = 0
        self._tls: ssl.SSLContext | None = None
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        """Port 0 takes a free one."""
        self._tls = tls
        self._server = await asyncio.start_server(self._serve, host, port, limit=_LINE_LIMIT, ssl=tls)
        self.host = host
        self.port = int(self._server.sockets[0].getsockname()[1])

    @property
    def talking(self) -> int:
        """Connections that are open."""
        return len(self._tasks)

    @property
    def listening(self) -> bool:
        return self._server is not None

    async def refuse(self) -> None:
        """Refuses connections from now on, and drops those there are."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def listen_again(self) -> None:
        if not self.listening:
            await self.start(self.host, self.port, self._tls)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            gone = (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError)
            with contextlib.suppress(*gone, asyncio.CancelledError):
                self.connections += 1
                await self._talk(Connection(reader, writer, self.connections))
        finally:
            self._tasks.discard(task)
            with contextlib.suppress(OSError):
                writer.close()

    async def _talk(self, connection: Connection) -> None:
        while connection.open:
            line, headers = await connection.receive_head()
            method, _, rest = line.partition(" ")
            reused, connection.requests = connection.requests > 0, connection.requests + 1
            request = Request(
                method, rest.partition(" ")[0], headers, b"", reused, "", self.patience, connection.number
            )
            if method != "POST":
                kept = self.keeps(request)
                request.body = await connection.receive_body(headers)
                if kept is not None:
                    await kept(connection, request)
                else:
                    await connection.answer(200, models(self.served), "application/json")
                continue
            hasty = self.hasty(request)
            if hasty is None:
                request.body = await connection.receive_body(headers)
            request.answer = self.speaks(request)
            try:
                await (hasty or self.choose(request))(connection, request)
            except ConnectionError:
                request.left.set()
                raise
            if hasty is not None and connection.open:
                request.body = await connection.receive_body(headers)
