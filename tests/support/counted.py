"""A TCP proxy that counts, and slows down, what comes from a server: what a pull takes of the network, whoever serves.

with Counted("127.0.0.1", 9000, rate=30 << 20) as proxy: … proxy.port …; proxy.bytes_served
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from types import TracebackType

from tests.support.served import Pace, small_buffer

_CHUNK = 128 << 10


class Counted:
    """The proxy, in a thread of its own while used as a context manager."""

    def __init__(self, host: str, port: int, *, rate: float = 0) -> None:
        """`rate` is bytes per second over all connections; 0: no limit."""
        self._target = host, port
        self.pace = Pace(rate)
        self.bytes_served = 0
        """From the server to its clients, heads included."""
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Counted:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        small_buffer(writer.transport)
        with contextlib.suppress(OSError):
            above, below = await asyncio.open_connection(*self._target)
            back = asyncio.create_task(self._copy(above, writer, counted=True))
            try:
                await self._copy(reader, below, counted=False)
                below.write_eof()
                await back
            finally:
                back.cancel()
                below.close()
        writer.close()

    async def _copy(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, counted: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(_CHUNK):
                if counted:
                    await self.pace.spend(len(data))
                    self.bytes_served += len(data)
                target.write(data)
                await target.drain()
        if counted:
            target.close()
