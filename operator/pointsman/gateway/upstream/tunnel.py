"""The way through an HTTP proxy: CONNECT, then TLS to the backend within it.

Decided here: what a proxy's answer to CONNECT means. Not here: which proxy (`domain/proxies.py`), how it is dialled
(`dialer.py`). Source: RFC 9110, 9.3.6. A proxy never sees a key or a prompt of an https backend; for an http one it is
sent the whole URL instead (RFC 9112, 3.2.2), since most proxies open tunnels to TLS ports only.
"""

from __future__ import annotations

import asyncio

from pointsman import __version__
from pointsman.domain.proxies import Proxy

HEAD_LIMIT = 16 << 10
"""Bytes of the longest answer to CONNECT."""


class ProxyFailed(Exception):
    """The text is a sentence about the backend behind the proxy, without names."""


async def open_tunnel(transport: asyncio.Transport, proxy: Proxy, host: str, port: int) -> None:
    """Asks the proxy at the other end of `transport`, which is used by nobody else, for the way. Raises `ProxyFailed`.
    Afterwards the transport needs another protocol."""
    reader = _HeadReader()
    transport.set_protocol(reader)
    transport.resume_reading()
    transport.write(_request(proxy, host, port))
    status = await reader.status
    transport.pause_reading()
    if not 200 <= status < 300:
        raise ProxyFailed(refusal(status))


def refusal(status: int) -> str:
    """What a proxy's status other than 2xx means."""
    if status == 407:
        return "its proxy wants credentials (407): put them into the proxy's URL, http://user:password@host:port"
    if status in (401, 403):
        return f"its proxy forbids the way to it ({status})"
    if status in (502, 503, 504):
        return f"its proxy cannot reach it ({status})"
    return f"its proxy answered {status} to CONNECT"


class _HeadReader(asyncio.Protocol):
    """Reads one head and nothing beyond it."""

    def __init__(self) -> None:
        self.status: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._seen = bytearray()

    def data_received(self, data: bytes) -> None:
        self._seen += data
        end = self._seen.find(b"\r\n\r\n")
        if end < 0:
            if len(self._seen) > HEAD_LIMIT:
                self._fail("its proxy sends a head without an end")
            return
        words = bytes(self._seen[:end]).split(b"\r\n", 1)[0].split(None, 2)
        if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or len(words[1]) != 3 or not words[1].isdigit():
            self._fail("its proxy does not speak HTTP")
        elif words[1].startswith(b"2") and len(self._seen) > end + 4:
            self._fail("its proxy sends bytes into the tunnel")
        elif words[1].startswith(b"1"):
            del self._seen[: end + 4]
            self.data_received(b"")
        elif not self.status.done():
            self.status.set_result(int(words[1]))

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail("its proxy closed the connection")

    def _fail(self, sentence: str) -> None:
        if not self.status.done():
            self.status.set_exception(ProxyFailed(sentence))


def _request(proxy: Proxy, host: str, port: int) -> bytes:
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {where} HTTP/1.1", f"host: {where}", f"user-agent: pointsman/{__version__}"]
    if proxy.authorization:
        lines.append(f"proxy-authorization: {proxy.authorization}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
