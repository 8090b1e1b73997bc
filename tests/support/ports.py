"""Free ports for servers that are told theirs.

A port that the system gave and that was let go again may be anybody's before the server has it: the near end of a
connection of another test, or its server. Those here lie below the range that the system gives from, and are drawn at
random, so that nobody else takes one by chance.
"""

from __future__ import annotations

import random
import socket
from pathlib import Path

_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LEAST, _MOST = 10_000, 30_000
"""Above the second a cluster's node ports begin."""
_given: set[int] = set()
_chance = random.SystemRandom()


def free_port() -> int:
    """One on which nobody listens, on 127.0.0.1, and that was not given before. Raises OSError."""
    below = min(_MOST, int(_RANGE.read_text().split()[0]) if _RANGE.exists() else _MOST)
    for _ in range(1000):
        port = _chance.randrange(_LEAST, below) if below > 2 * _LEAST else 0
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            port = int(probe.getsockname()[1])
        if port not in _given:
            _given.add(port)
            return port
    raise OSError("no port of 127.0.0.1 is free")
