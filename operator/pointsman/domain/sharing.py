"""How many of an endpoint's slots are this gateway's? Limits are per endpoint; several gateways share each.

Decided here: the shares. Not here: what limits there are (`table.py`) and how many gateways live (`gateway/sources`).

Gateways that agree on who lives agree on the shares, without a word between them: the slots are divided evenly, and
those left over go round, from a place that differs from endpoint to endpoint. Each gateway keeps one slot at least:
with fewer slots than gateways there are as many as gateways.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from zlib import crc32


@dataclass(frozen=True)
class Crew:
    """The gateways of a namespace as one of them sees them."""

    size: int = 1
    place: int = 0
    """This gateway's among them, from 0."""

    def share(self, slots: int, endpoint: str) -> int:
        """This gateway's part of `slots` of the endpoint with that key."""
        each, over = divmod(slots, self.size)
        mine = (self.place + crc32(endpoint.encode())) % self.size < over
        return max(1, each + mine)


ALONE = Crew()


def crew(living: Iterable[str], me: str) -> Crew:
    """`living` names the gateways that take requests; this one counts itself in any case."""
    names = sorted({*living, me})
    return Crew(len(names), names.index(me))
