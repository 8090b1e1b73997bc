"""What an engine says of its own load: the values, and how they are read. Pure.

A gateway knows what it has in flight at an endpoint; what other gateways and clients have there, and who waits inside
the engine, only the engine knows. vLLM and llama.cpp tell it in Prometheus' text form (the exposition format 0.0.4); of
a page of some hundred kilobytes three lines are wanted, so only these are read.

Names: vLLM's `docs/design/metrics.md` (`kv_cache_usage_perc` was `gpu_cache_usage_perc` until 0.10), llama.cpp's
`tools/server/README.md`.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from pointsman.api.engine import Engine

PATH = "/metrics"


@dataclass(frozen=True)
class EngineLoad:
    """One moment of one engine."""

    running: int
    """Requests that it works at."""
    waiting: int
    """Requests that wait inside it."""
    cache_usage: float | None = None
    """Share of its cache for keys and values that is in use, 0 to 1; None when it does not say."""


@dataclass(frozen=True)
class _Names:
    running: bytes
    waiting: bytes
    cache_usage: tuple[bytes, ...] = ()


_NAMES: Mapping[Engine, _Names] = {
    Engine.VLLM: _Names(
        b"vllm:num_requests_running",
        b"vllm:num_requests_waiting",
        (b"vllm:kv_cache_usage_perc", b"vllm:gpu_cache_usage_perc"),
    ),
    Engine.LLAMA_CPP: _Names(b"llamacpp:requests_processing", b"llamacpp:requests_deferred"),
}


def tells(engine: Engine) -> bool:
    """Does an engine tell its load?"""
    return engine in _NAMES


def read_load(engine: Engine, text: bytes) -> EngineLoad | None:
    """None when the page does not say it. Several series of one name (an engine with several workers) are added up;
    of their caches the fullest counts."""
    names = _NAMES[engine]
    running, waiting = _values(text, names.running), _values(text, names.waiting)
    if not running or not waiting:
        return None
    usage = [value for name in names.cache_usage for value in _values(text, name)]
    return EngineLoad(int(sum(running)), int(sum(waiting)), max(usage) if usage else None)


def _values(text: bytes, name: bytes) -> list[float]:
    """The values of all series of a name."""
    out = []
    at = text.find(name)
    while at >= 0:
        end = text.find(b"\n", at)
        line = text[at : end if end >= 0 else len(text)]
        rest = line[len(name) :]
        if (at == 0 or text[at - 1 : at] == b"\n") and rest[:1] in (b"{", b" "):
            value = rest[rest.rfind(b"}") + 1 :].split()
            with suppress(IndexError, ValueError):
                out.append(float(value[0]))
        at = text.find(name, at + len(name))
    return [v for v in out if 0 <= v < 1e9]
