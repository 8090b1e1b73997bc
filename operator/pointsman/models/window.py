"""How much of an answer the kernel may hold for a pull: all of that is lost when it is killed.

Left to itself Linux lets 6 to 32 MiB wait on each connection (`net.ipv4.tcp_rmem`) while a busy pull does not read;
`TCP_WINDOW_CLAMP` does not hold it back, for each read lets it widen the window again. A buffer that was set by hand
stays as it is. It is set only where it cannot slow the pull down: over a long way more must be under way than a node's
`net.core.rmem_max` may allow, and the kernel's own judgement is the better one.
"""

from __future__ import annotations

import socket
import sys
from typing import Any, Final, Protocol

BUFFER_BYTES: Final = 2 << 20
"""What may wait on one connection."""
RATE: Final = 20_000_000
"""Bytes per second of one connection that a buffer must not stand in the way of."""
_BUF_LOCK: Final = 72
"""`SO_BUF_LOCK` of Linux 5.14 and later; Python has no name for it."""
_RTT_AT: Final = 68
"""Where `struct tcp_info` has `tcpi_rtt`, in µs."""


class Socket(Protocol):
    """What is needed of a socket, or of what an event loop shows instead of one."""

    def setsockopt(self, level: int, name: int, value: int, /) -> None:
        """As of `socket.socket`."""

    def getsockopt(self, level: int, name: int, size: int = ..., /) -> Any:
        """As of `socket.socket`."""


def bound(connection: Socket, rate: float = RATE) -> bool:
    """Bounds what waits on a connection, unless `rate` needs more. Was it bounded? Raises `OSError`."""
    info: bytes = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _RTT_AT + 4)
    round_trip_us = int.from_bytes(info[_RTT_AT:], sys.byteorder)
    if not suffices(BUFFER_BYTES, round_trip_us, rate):
        return False
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES // 2)  # Linux doubles it, for its own needs
    granted: int = connection.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    if suffices(granted, round_trip_us, rate):
        return True
    connection.setsockopt(socket.SOL_SOCKET, _BUF_LOCK, 0)
    return False


def suffices(buffer: int, round_trip_us: int, rate: float) -> bool:
    """Does a kernel's buffer of so many bytes, half of which may be its own, let `rate` bytes a second come?"""
    return buffer / 2 >= rate * round_trip_us / 1e6
