"""What a kill can cost is bounded where it comes from: in the kernel's buffers, and between a write and its journal."""

import asyncio
import os
import select
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.models.helpers import MIB, kept_bytes
from tests.support.files_server import FilesServer

from pointsman.models.auth import Fixed
from pointsman.models.blob import Blob
from pointsman.models.checkpoint import Checkpointer
from pointsman.models.errors import PullError, PullReason
from pointsman.models.partial import Partial
from pointsman.models.pool import Pool
from pointsman.models.requests import Requests
from pointsman.models.transport import make_client
from pointsman.models.window import BUFFER_BYTES, RATE, bound, suffices

PART = 8 * MIB
CHUNK = MIB // 4
BUF_LOCK, RECEIVING = 72, 2
"""`SO_BUF_LOCK` and `SOCK_RCVBUF_LOCK`: the kernel does not change this buffer's size."""


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A server's end of a connection and a client's; the server keeps little back."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as client:
        server, _ = listener.accept()
        with server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 << 10)
            server.setblocking(False)
            yield server, client


def pour(server: socket.socket, client: socket.socket, seconds: float = 0.3) -> int:
    """What a client that has read for a while holds when it reads no more: bytes sent until nothing went for `seconds`,
    less those it read."""
    data = bytes(CHUNK)
    held = 0
    for n in range(3000):
        readable, writable, _ = select.select([client] if n < 1000 else [], [server], [], seconds)
        if not readable and not writable:
            break
        if writable:
            held += server.send(data)
        if readable:
            held -= len(client.recv(CHUNK))
    else:
        raise AssertionError("it never stopped")
    return held


def test_what_waits_on_a_connection_is_bounded(pair: tuple[socket.socket, socket.socket]) -> None:
    server, client = pair
    assert bound(client)
    assert client.getsockopt(socket.SOL_SOCKET, BUF_LOCK) == RECEIVING, "the kernel leaves it alone"
    assert pour(server, client) < BUFFER_BYTES + (256 << 10)


def test_a_buffer_never_stands_in_the_way_of_the_rate(pair: tuple[socket.socket, socket.socket]) -> None:
    _, client = pair
    assert not bound(client, rate=1e15)
    assert client.getsockopt(socket.SOL_SOCKET, BUF_LOCK) == 0, "the kernel may widen it"


async def test_every_answer_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(bytes(CHUNK))
    with FilesServer(tmp_path) as server:
        url = httpx.URL(f"{server.base}/model.gguf")
        async with make_client(1) as client:
            requests = Requests(client, url, Fixed(url, ""), lambda _: PullError(PullReason.REGISTRY_ERROR, ""))
            async with requests.get(url, {}) as response:
                connection = response.extensions["network_stream"].get_extra_info("socket")
                assert connection.getsockopt(socket.SOL_SOCKET, BUF_LOCK) == RECEIVING


def test_which_way_is_too_long() -> None:
    assert suffices(BUFFER_BYTES, 50_000, RATE)
    assert not suffices(BUFFER_BYTES, 55_000, RATE)
    assert suffices(425_984, 10_000, RATE), "what many nodes grant"
    assert not suffices(425_984, 12_000, RATE)


async def test_no_more_than_a_quarter_of_a_part_is_without_a_journal(tmp_path: Path) -> None:
    pool = Pool(tmp_path / "blobs", tmp_path / ".pointsman" / "staging", tmp_path / ".pointsman" / "blobs")
    pool.prepare()
    blob = Blob(4 * PART, "sha256:" + "0" * 64)
    partial = Partial(pool, blob)
    checkpointer = Checkpointer(PART)
    begun = 0
    most = 0

    async def writes(start: int, end: int) -> None:
        nonlocal begun, most
        for at in range(start, end, CHUNK):
            await checkpointer.room(CHUNK)
            begun += CHUNK
            most = max(most, begun - kept_bytes(tmp_path))
            await asyncio.to_thread(partial.write, at, [os.urandom(CHUNK)])
            checkpointer.wrote(partial, at, at + CHUNK)

    running = asyncio.create_task(checkpointer.run())
    share = blob.size // 8
    async with asyncio.timeout(60):
        await asyncio.gather(*(writes(n * share, (n + 1) * share) for n in range(8)))
    await checkpointer.flush(partial)
    running.cancel()
    partial.close()
    assert most <= PART // 4
    assert kept_bytes(tmp_path) == blob.size
