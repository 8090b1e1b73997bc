"""A TCP proxy on loopback that a test can break: cut what is open, refuse what comes, swallow what flows."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from types import TracebackType

import yaml


class TcpProxy:
    """`async with TcpProxy("10.0.0.1", 6443) as proxy:`; connect to 127.0.0.1, `proxy.port`."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._server: asyncio.Server | None = None
        self._pairs: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self.port = 0
        self.accepted = 0
        """Connections accepted since the start."""
        self.silent = False
        """True: bytes from the target are swallowed, connections stay open."""
        self.cut_after: int | None = None
        """Bytes from the target after which the next connection is cut, once."""

    async def __aenter__(self) -> TcpProxy:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def open(self) -> None:
        """Accepts connections (again, at the same port)."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Cuts everything and refuses what comes."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, *self._serving, return_exceptions=True)

    def cut(self) -> None:
        """Resets every open connection."""
        for pair in tuple(self._pairs):
            for writer in pair:
                writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.create_task(self._connect(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up_reader, up_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        pair = (writer, up_writer)
        self._pairs.add(pair)
        both = [
            asyncio.create_task(self._pump(reader, up_writer, from_target=False)),
            asyncio.create_task(self._pump(up_reader, writer, from_target=True)),
        ]
        self._tasks.update(both)
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        self._pairs.discard(pair)
        for end in pair:
            end.transport.abort()
        for task in both:
            task.cancel()
        await asyncio.gather(*both, return_exceptions=True)
        self._tasks.difference_update(both)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, from_target: bool) -> None:
        passed = 0
        limit, self.cut_after = (self.cut_after, None) if from_target else (None, self.cut_after)
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                passed += len(data)
                if from_target and self.silent:
                    continue
                if limit is not None and passed > limit:
                    return
                writer.write(data)
                await writer.drain()


def through(proxy: TcpProxy, kubeconfig: Path, folder: Path) -> Path:
    """The kubeconfig by way of the proxy; the API server's certificate does not name it."""
    config = yaml.safe_load(kubeconfig.read_text())
    cluster = config["clusters"][0]["cluster"]
    cluster["server"] = f"https://127.0.0.1:{proxy.port}"
    for key in ("certificate-authority", "certificate-authority-data"):
        cluster.pop(key, None)
    cluster["insecure-skip-tls-verify"] = True
    path = folder / f"proxied-{kubeconfig.name}"
    path.write_text(yaml.safe_dump(config))
    return path
