"""Clients' connections: one request at a time, in order; and the server that accepts them.

Decided here: when bytes are read, when a connection ends, what a malformed request gets. Not here: what a request asks
for (`doors.py`).

Invariants: requests of one connection are answered in the order they came; while one is being answered at most
`pipelined_bytes` of later ones are kept; a client that is refused is read from for a while, so that it can read why; a
connection is not closed right behind an answer that did not announce it, for the client may ask again at once.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any, Final, cast

from pointsman.dialects.openai import complaint_body
from pointsman.dialects.request import Complaint
from pointsman.domain.table import RoutingTable
from pointsman.gateway.front import doors
from pointsman.gateway.front.request_reader import ALWAYS_WANTED, RequestReader
from pointsman.gateway.insight.events import Event, TableChanged
from pointsman.gateway.relay import replies
from pointsman.gateway.relay.client import Client, Served
from pointsman.gateway.relay.datapath import DataPath
from pointsman.gateway.relay.wheel import NEVER

COUNTED_BYTES: Final = 16 * 1024
"""Smaller bodies are not counted: they add up to little beside what a connection takes anyway."""


class ClientConnection(Client):
    """An `asyncio.Protocol` by its methods; it is none by its class, so that it can be compiled."""

    __slots__ = (
        "_body_counted", "_chunked", "_closing", "_exchange", "_keep", "_limits", "_path", "_promised", "_pumping",
        "_reader", "_reading", "_server", "_stash", "_transport", "_unanswered", "busy", "deadline", "due",
    )  # fmt: skip

    def __init__(self, server: Server) -> None:
        self._server = server
        self._path = path = server.path
        self._limits = path.limits
        self._reader = RequestReader(path.limits, server.wanted)
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._exchange: Served | None = None
        self._stash = bytearray()
        self._reading = True
        self._pumping = False
        self._closing = False
        self._chunked = True
        self._keep = True
        self._unanswered = False
        self._promised = False
        self._body_counted = 0
        self.busy = False
        """A request is being answered."""
        self.deadline = NEVER
        self.due = NEVER

    # ---- asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=self._limits.write_high_bytes)
        self._server.connections.add(self)
        self.set_deadline(self._path.clock() + self._limits.keep_alive_seconds)

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        if self.busy:
            self._stash += data
            if len(self._stash) > self._limits.pipelined_bytes and self._reading:
                self._reading = False
                self._transport.pause_reading()
            return
        reader = self._reader
        reader.feed(data)
        if reader.ready or reader.error is not None or reader.upgraded:
            self._pump()
        else:
            self._wait_for_more()

    def forget(self) -> None:
        """Other headers are wanted from now on."""
        self._reader.forget()

    def eof_received(self) -> None:
        # A client that will not read its answer is gone; one that only stops sending cannot be told apart from it.
        self._leave()

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        self._server.connections.discard(self)
        self._path.wheel.forget(self)
        self._reader.close()
        self.release_body()
        self._server.noticed()

    def _leave(self) -> None:
        self._closing = True
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.client_gone()

    def pause_writing(self) -> None:
        if self._exchange is not None:
            self._exchange.client_slow(True)

    def resume_writing(self) -> None:
        if self._exchange is not None:
            self._exchange.client_slow(False)

    # ---- requests

    def _wait_for_more(self) -> None:
        reader = self._reader
        limits = self._limits
        now = self._path.clock()
        if reader.in_body:
            size = reader.body_size
            self._path.bodies += size - self._body_counted
            self._body_counted = size
            if self._path.bodies > limits.bodies_bytes:
                self._refuse(Complaint(503, "the gateway holds too many large requests: try again", "overloaded"))
                return
            if reader.continue_wanted:
                reader.continue_wanted = False
                self._transport.write(replies.CONTINUE)
            self._unanswered = True
            self.set_deadline(now + limits.body_seconds)
        elif reader.in_head and not self._unanswered:
            # From the first byte on: more bytes buy no more time.
            self._unanswered = True
            self.set_deadline(now + limits.head_seconds)

    def _pump(self) -> None:
        """Answers what is ready, one after another, without recursion."""
        if self._pumping:
            return
        self._pumping = True
        reader = self._reader
        while not self.busy and not self._closing:
            if reader.ready:
                request = reader.ready.pop(0)
                self._unanswered = False
                self.busy = True
                self._chunked = not request.http10
                self._keep = request.keep_alive and not self._path.leaving
                exchange = doors.enter(self._path, self, request)
                if exchange is not None:
                    self._exchange = exchange
                    if len(request.body) > COUNTED_BYTES:
                        exchange.once = self._keeps_too_much(len(request.body))
                    exchange.start()
            elif reader.error is not None:
                self._refuse(reader.error)
            elif reader.upgraded:
                self._shut()
            elif self._stash:
                data, self._stash = bytes(self._stash), bytearray()
                reader.feed(data)
                if not (reader.ready or reader.error is not None or reader.upgraded):
                    self._wait_for_more()
            else:
                break
        self._pumping = False
        if not self.busy and not self._reading and not self._closing:
            self._reading = True
            self._transport.resume_reading()

    def _keeps_too_much(self, size: int) -> bool:
        """Counts a body; True when it cannot be kept until its answer begins."""
        path = self._path
        path.bodies += size - self._body_counted
        self._body_counted = size
        return size > self._limits.replay_bytes or path.bodies > self._limits.kept_bytes

    def consumer(self) -> str:
        """Until callers authenticate: the address that it comes from."""
        peer = self._transport.get_extra_info("peername")
        return str(peer[0]) if isinstance(peer, tuple) else ""

    # ---- answers

    def reply(self, data: bytes) -> None:
        """A whole answer."""
        self._transport.write(data)

    def begin(self, content_type: bytes, extra: bytes, keep_alive: bool) -> None:
        """The head of an answer whose length is unknown."""
        self._keep = keep_alive = keep_alive and self._chunked and not self._path.leaving
        self._transport.write(replies.stream_head(content_type, extra, chunked=self._chunked, keep_alive=keep_alive))

    def write(self, data: bytes) -> None:
        self._transport.write(replies.chunk(data) if self._chunked else data)

    def end(self, last: bytes) -> None:
        if self._chunked:
            last = (replies.chunk(last) if last else b"") + replies.LAST_CHUNK
        if last:
            self._transport.write(last)

    def abort(self) -> None:
        """Breaks the connection off: the client must not take what it has for a whole answer."""
        self._closing = True
        self._transport.abort()

    def finished(self, now: float) -> None:
        """The request is answered."""
        self._exchange = None
        self.release_body()
        if self._closing:
            return
        if not self._keep:
            self._shut()
            self._server.noticed()
            return
        self.busy = False
        if self._path.leaving:
            # The answer began before: its head said that the connection stays open.
            self._promised = True
            self.set_deadline(now + self._limits.linger_seconds)
        else:
            self.set_deadline(now + self._limits.keep_alive_seconds)
        if not self._pumping:
            reader = self._reader
            if reader.ready or self._stash or reader.error is not None or reader.upgraded:
                self._pump()

    def _refuse(self, complaint: Complaint) -> None:
        """An answer to what is no request, or not yet; the connection ends with it."""
        request_id = self._path.new_id()
        self._path.complained(request_id, complaint)
        extra = b"x-request-id: %b\r\nx-should-retry: false\r\n" % request_id
        self.reply(replies.whole(complaint.status, replies.JSON, extra, complaint_body(complaint), False))
        self._shut()

    def _shut(self) -> None:
        """No more answers. What the client still sends is read and thrown away for a while: closing on unread bytes
        would reset the connection and destroy the answer on its way."""
        self._closing = True
        self._promised = False
        self._stash.clear()
        self.release_body()
        if self._transport.is_closing():
            return
        if not self._reading:
            self._reading = True
            self._transport.resume_reading()
        if self._transport.can_write_eof():
            self._transport.write_eof()
            self.set_deadline(self._path.clock() + self._limits.linger_seconds)
        else:
            self._transport.close()

    def release_body(self) -> None:
        self._path.bodies -= self._body_counted
        self._body_counted = 0

    # ---- time

    def set_deadline(self, deadline: float) -> None:
        # Later than when the wheel looks anyway: it will find the new one then.
        if deadline >= self.due:
            self.deadline = deadline
        else:
            self._path.wheel.set(self, deadline)

    def on_deadline(self, now: float) -> None:
        if self._exchange is not None:
            self._exchange.on_deadline(now)
        elif self._closing:
            self._transport.abort()
        elif self._unanswered:
            self._refuse(Complaint(408, "the request did not arrive in time", "request_timeout"))
        else:
            self._shut()
            self._server.noticed()

    @property
    def occupied(self) -> bool:
        """A request is being answered or arriving, or an answer is not yet handed to the system."""
        if self._closing:
            return not self._transport.is_closing() and self._transport.get_write_buffer_size() > 0
        return self.busy or self._unanswered or self._promised

    def drain(self) -> None:
        """Ends the connection unless a request is being answered, arriving, or may come at once."""
        if not self._closing and not self.occupied:
            self._shut()


class Server:
    """Accepts clients. `drain` before `close`."""

    def __init__(self, path: DataPath) -> None:
        self.path = path
        self.connections: set[ClientConnection] = set()
        self.wanted: set[bytes] = set()
        """The request headers that are kept: one set for all connections, its content follows the routes."""
        self._want(path.state.table)
        self._unsubscribe = path.state.subscribe(self._on_event)
        self._servers: list[asyncio.AbstractServer] = []
        self._idle: asyncio.Event | None = None

    def _want(self, table: RoutingTable) -> None:
        self.wanted.clear()
        self.wanted |= ALWAYS_WANTED
        self.wanted |= table.headers

    def _on_event(self, event: Event) -> None:
        if isinstance(event, TableChanged):
            self._want(event.table)
            for connection in self.connections:
                connection.forget()

    async def listen(self, host: str | None = None, port: int = 8080, *, sock: socket.socket | None = None) -> int:
        """Starts to accept; returns the port. Raises `OSError` when it is taken."""
        loop = asyncio.get_running_loop()
        if sock is not None:
            server = await loop.create_server(self._connection, sock=sock, backlog=1024)
        else:
            server = await loop.create_server(self._connection, host, port, backlog=1024)
        self._servers.append(server)
        return _port(server)

    def _connection(self) -> asyncio.Protocol:
        return cast(asyncio.Protocol, ClientConnection(self))

    def leave(self) -> None:
        """Goes on accepting, but each answer says that its connection ends: those who keep connections go elsewhere
        while the pod leaves its Service."""
        self.path.leaving = True

    async def drain(self, timeout: float) -> bool:
        """Accepts no more, lets requests in flight finish within `timeout` seconds; True when all did. The caller makes
        the pod unready first, calls `leave`, and waits until clients know."""
        self.leave()
        for server in self._servers:
            server.close()
        self._idle = asyncio.Event()
        for connection in list(self.connections):
            connection.drain()
        self.noticed()
        try:
            async with asyncio.timeout(timeout):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    def noticed(self) -> None:
        """A request or a connection ended."""
        if self._idle is not None and not any(c.occupied for c in self.connections):
            self._idle.set()

    async def close(self) -> None:
        """Ends everything at once."""
        self._unsubscribe()
        for server in self._servers:
            server.close()
        for connection in list(self.connections):
            connection.abort()
        self.path.close()


def _port(server: Any) -> int:
    # Not `asyncio.Server` by its class, and its sockets no tuple, whatever their types say.
    return int(server.sockets[0].getsockname()[1])
