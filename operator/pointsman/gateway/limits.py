"""How much of everything the data path takes before it says no. Bytes and seconds."""

from __future__ import annotations

from dataclasses import dataclass, field

from pointsman.gateway.memory import memory_limit


@dataclass(frozen=True)
class Limits:
    head_bytes: int = 64 * 1024
    """A request's line and headers; more gives 431."""
    body_bytes: int = 64 * 1024 * 1024
    """A request's body; more gives 413."""
    replay_bytes: int = 32 * 1024 * 1024
    """A larger body is not kept once it was sent: its request gets one attempt."""
    kept_bytes: int = field(default_factory=lambda: memory_limit() // 4)
    """The bodies of all requests together, until their answers begin; beyond that, requests get one attempt."""
    bodies_bytes: int = field(default_factory=lambda: memory_limit() // 2)
    """The same; beyond that, requests get 503."""
    silent_seconds: float = 15.0
    """A stream that waits (for a slot, for a target that is not ready) gets no byte for so long; then its head, and a
    comment each time that this is over again."""
    upstream_head_bytes: int = 256 * 1024
    answer_bytes: int = 8 * 1024 * 1024
    """A JSON answer is judged whole up to here, then committed."""
    error_bytes: int = 1024 * 1024
    """Of an answer with an error status; a longer one is cut short and judged by its beginning."""
    pipelined_bytes: int = 64 * 1024
    """What a client may send ahead while its request is being answered, before we stop reading."""
    head_seconds: float = 10.0
    """From a request's first byte to the end of its headers."""
    body_seconds: float = 60.0
    """Between two pieces of a request's body."""
    keep_alive_seconds: float = 75.0
    linger_seconds: float = 2.0
    """How long we go on reading from a client that was refused, so that it can read why."""
    pool_idle_seconds: float = 30.0
    pool_age_seconds: float = 600.0
    pool_idle_connections: int = 256
    """Idle connections kept per endpoint."""
    end_grace_seconds: float = 2.0
    """After the last finish_reason: how long to wait for usage and [DONE]."""
    stored_answer_seconds: float = 10.0
    """What one backend has to say whether it keeps what is looked for."""
    stored_total_seconds: float = 30.0
    """What all of them have."""
    stored_idle_seconds: float = 120.0
    """Between two pieces of a stored answer that is passed on as it comes."""
    write_high_bytes: int = 256 * 1024
    """Above this in a client's buffer we stop reading from its backend."""
