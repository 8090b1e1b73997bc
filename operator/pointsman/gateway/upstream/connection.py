"""One connection to a backend: bytes in, bytes out, and who it works for.

Decided here: when a connection may be used again. Not here: what its answers mean (`relay/`), which one is taken
(`pool.py`), how it is made (`dialer.py`).

Invariant: a connection goes back to its pool only after its reader took a whole answer with nothing left over, the
request was written completely, and not a byte came while it was idle.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol, cast

from pointsman.gateway.limits import Limits
from pointsman.gateway.upstream.answer_reader import AnswerReader
from pointsman.gateway.upstream.known_head import KnownHeads

LINGER_SECONDS: Final = 1.0
"""How long the end of an answer that is whole for the client may take to come."""


class Owner(Protocol):
    """Who waits for the answer on a connection."""

    def upstream_data(self, connection: UpstreamConnection) -> None:
        """`connection.reader` has something new."""

    def upstream_lost(self, connection: UpstreamConnection) -> None:
        """It was closed before its answer was whole."""


class UpstreamConnection:
    """An `asyncio.Protocol` by its methods; it is none by its class, so that it can be compiled."""

    __slots__ = ("_give_back", "_transport", "clock", "closed", "created", "expires", "owner", "reader", "reused")

    def __init__(
        self,
        limits: Limits,
        give_back: Callable[[UpstreamConnection, float], bool],
        clock: Callable[[], float],
        known: KnownHeads | None = None,
    ) -> None:
        self.reader = AnswerReader(limits, known)
        self.owner: Owner | None = None
        self.clock = clock
        self.created = self.expires = clock()
        """When it is too old to be taken from its pool."""
        self.reused = False
        """It has carried an answer before."""
        self.closed = False
        """No request can be sent on it any more."""
        self._give_back = give_back
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)

    def send(self, owner: Owner, data: bytes) -> None:
        if self._taken_by(owner):
            self._transport.write(data)

    def send_pieces(self, owner: Owner, pieces: list[bytes | memoryview]) -> None:
        """The same for what is too large to be joined."""
        if self._taken_by(owner):
            self._transport.writelines(pieces)

    def _taken_by(self, owner: Owner) -> bool:
        self.owner = owner
        if self.closed:
            # It was made and lost before anybody could use it: a backend that dies does that.
            asyncio.get_running_loop().call_soon(self.connection_lost, None)
            return False
        return True

    def pause(self) -> None:
        if not self.closed:
            self._transport.pause_reading()

    def resume(self) -> None:
        if not self.closed:
            self._transport.resume_reading()

    def release(self, now: float) -> None:
        """The owner has what it wanted."""
        self.owner = None
        reader = self.reader
        if reader.complete and reader.keep_alive and not reader.residue and not self.closed:
            if self._transport.get_write_buffer_size() == 0:
                reader.reset()
                self.reused = True
                if self._give_back(self, now):
                    return
        elif reader.head_done and not reader.complete and reader.fault is None and not self.closed:
            # Its answer was whole for us, but not yet for HTTP: the last chunk is on its way.
            self.owner = _LINGER
            asyncio.get_running_loop().call_later(LINGER_SECONDS, self._give_up)
            return
        self.close()

    def close(self) -> None:
        """At once: the backend should stop working for nobody."""
        self.owner = None
        self.closed = True
        self._transport.abort()

    def _give_up(self) -> None:
        if self.owner is _LINGER:
            self.close()

    # ---- asyncio's callbacks

    def pause_writing(self) -> None:
        """A large request goes out more slowly than it came in: it is in memory anyway."""

    def resume_writing(self) -> None:
        """The same."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        owner = self.owner
        if owner is None:
            self.close()
            return
        self.reader.feed(data)
        owner.upstream_data(self)

    def eof_received(self) -> None:
        self.closed = True
        owner = self.owner
        if owner is not None and not self.reader.complete and self.reader.eof():
            owner.upstream_data(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        owner, self.owner = self.owner, None
        self.reader.close()
        if owner is not None:
            owner.upstream_lost(self)


class _Linger:
    """Waits for the end of an answer that nobody needs any more, so that the connection can be used again."""

    __slots__ = ()

    def upstream_data(self, connection: UpstreamConnection) -> None:
        reader = connection.reader
        if reader.complete:
            connection.release(connection.clock())
        elif reader.pieces or reader.fault is not None:
            # More than an end: not worth waiting for.
            connection.close()

    def upstream_lost(self, connection: UpstreamConnection) -> None:
        return


_LINGER: Final = _Linger()
