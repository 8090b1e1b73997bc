"""What a decision may ask of a request. Each is worked out only when it is asked for.

Decided here: which features there are, what a task wants, and how chance is drawn. Not here: how a feature is read from
bytes (`dialects/features.py`).

Chance comes from the request's id: one id, one draw, in every gateway and in `explain`. A caller who sends the same id
with every request gets the same draw every time.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from math import log
from typing import Final, Protocol
from zlib import crc32

from pointsman.api.model import Capability
from pointsman.api.route import Needed, TaskType

TASK_CAPABILITY = {
    TaskType.CODE_GENERATION: Capability.CODE,
    TaskType.CODE_ANALYSIS: Capability.CODE,
    TaskType.REASONING: Capability.REASONING,
    TaskType.PLANNING: Capability.REASONING,
}
"""What a task wants of a model. The others want nothing in particular."""

_MASK: Final = (1 << 64) - 1
NOTHING: frozenset[Needed] = frozenset()


class Features(Protocol):
    """Of one request. The same question gets the same answer as long as the request lives."""

    @property
    def seed(self) -> int:
        """Bits that the request's id decides, 32 at least: its chance."""

    @property
    def stream(self) -> bool: ...

    @property
    def task(self) -> TaskType | None:
        """As the caller said it."""

    @property
    def needs(self) -> frozenset[Needed]: ...

    @property
    def prompt_tokens(self) -> int:
        """An estimate, at least 1."""

    @property
    def prefix(self) -> int:
        """64 bits that the beginning of the prompt decides."""

    def header(self, name: bytes) -> str | None:
        """`name` in lower case; only headers that some route asks about are known."""

    def key(self, header: bytes | None) -> str | None:
        """Who asks: the header's value, else what the body says of its user; None when nothing does."""


class Plain:
    """A request that has nothing special."""

    seed = 0
    stream = False
    task: TaskType | None = None
    needs = NOTHING
    prompt_tokens = 1
    prefix = 0

    def header(self, name: bytes) -> str | None:
        return None

    def key(self, header: bytes | None) -> str | None:
        return None


PLAIN = Plain()


def seed_of(data: bytes) -> int:
    """64 bits, evenly spread, the same everywhere."""
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "big")


@lru_cache(maxsize=4096)
def salt_of(name: str) -> int:
    """The same, of the name of a target or the key of an endpoint."""
    return seed_of(name.encode())


def draw_of(request_id: bytes) -> int:
    """32 bits, evenly spread, the same everywhere: a third of the price of `seed_of`, for every request. (A checksum
    tells ids apart, two rounds of C. Wellons's hash-prospector, public domain, mix it; products fit in 62 bits.)"""
    x = crc32(request_id)
    x = ((x ^ (x >> 16)) * 0x2C1B3C6D) & 0xFFFFFFFF
    x = ((x ^ (x >> 12)) * 0x297A2D39) & 0xFFFFFFFF
    return x ^ (x >> 15)


def mixed(seed: int, salt: int) -> int:
    """64 bits of both (the finalizer of splitmix64, public domain)."""
    x = (seed ^ salt) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)


def race(seed: int, salt: int, weight: float) -> float:
    """When a runner of this weight arrives: the first of several is each with the probability of its share of the
    weights, and who leaves changes nothing among the others (an exponential race; as a hash: weighted rendezvous)."""
    return -log((mixed(seed, salt) + 1) / (_MASK + 2)) / weight
