"""Measures answers of a chat API as a client sees them: first token, tokens a second, and how much context is kept.

Decided here: what is measured, and how. Tokens are those that the backend counts; where it counts none, nothing is made
up. Every prompt begins with a word of its own, so that no cache of beginnings answers for the engine. Not here: whom to
ask (`test.py`), how it is shown.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

import aiohttp

from pointsman.cli.place import error_message

Ask = Callable[[bytes], AbstractAsyncContextManager[aiohttp.ClientResponse]]
"""Sends a body to a chat API."""

WHOLE = 0.98
"""A prompt counts as taken whole when the backend counts this share of its tokens: tokenisers merge a few at seams."""
_ANSWER_TOKENS = 32
_SAMPLES = (16, 64)
"""Words of the two prompts by which the tokens of a round of words are found out."""
_WORDS = ("river", "stone", "window", "garden", "paper", "silver", "morning", "bridge", "winter", "table", "music",
          "forest", "letter", "harbour", "candle", "orange")  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """What one streamed answer was."""

    model: str
    ok: bool
    backend: str = ""
    backend_model: str = ""
    attempts: int = 0
    first_token_ms: float | None = None
    total_ms: float = 0.0
    prompt_tokens: int | None = None
    tokens: int | None = None
    """Completion tokens, as the backend counted them; None when it did not."""
    tokens_per_second: float | None = None
    """From the first to the last of them."""
    answer: str = ""
    error: str = ""


@dataclass(frozen=True)
class Load:
    """What several requests were together."""

    requests: int
    at_once: int
    failed: int
    seconds: float
    first_token_ms: float | None
    """The median."""
    worst_first_token_ms: float | None
    tokens_per_second: float | None
    """Of one stream: the median."""
    all_tokens_per_second: float | None
    """Of all streams together."""
    error: str = ""
    """Of the first that failed."""


@dataclass(frozen=True)
class Context:
    """What became of one long prompt."""

    ok: bool
    """It was taken whole and answered."""
    asked: int
    """Tokens that were asked for."""
    sent: int = 0
    """Tokens of the prompt, reckoned from two short ones."""
    counted: int | None = None
    """Tokens of the prompt, as the backend counted them."""
    recalled: bool = False
    """The word at its beginning came back; small models may fail at that with the whole prompt before them."""
    first_token_ms: float | None = None
    tokens_per_second: float | None = None
    """Tokens read a second until the first came back."""
    error: str = ""


async def measure(ask: Ask, model: str, prompt: str, max_tokens: int) -> Measured:
    """Sends one streamed chat request and reads it to its end. Raises `aiohttp.ClientError`, `TimeoutError`."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": max_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    started = time.perf_counter()
    first = last = 0.0
    text: list[str] = []
    usage: dict[str, Any] = {}
    error = ""
    async with ask(json.dumps(body).encode()) as answer:
        if answer.status >= 400:
            error = error_message(await answer.text()) or f"HTTP status {answer.status}"
            return Measured(model=model, ok=False, total_ms=(time.perf_counter() - started) * 1000, error=error)
        async for line in answer.content:
            if not line.startswith(b"data: ") or line.startswith(b"data: [DONE]"):
                continue
            frame = json.loads(line[6:])
            if "error" in frame:
                said = frame["error"]
                error = str(said.get("message", said) if isinstance(said, dict) else said)
                break
            if piece := _piece(frame):
                last = time.perf_counter()
                first = first or last
                text.append(piece)
            usage = frame.get("usage") or usage
        ended = time.perf_counter()
        headers = answer.headers
    tokens = usage.get("completion_tokens")
    return Measured(
        model=model,
        ok=not error and bool(text),
        backend=headers.get("x-pointsman-backend", ""),
        backend_model=headers.get("x-pointsman-model", ""),
        attempts=int(headers.get("x-pointsman-attempts", 0)),
        first_token_ms=(first - started) * 1000 if first else None,
        total_ms=(ended - started) * 1000,
        prompt_tokens=usage.get("prompt_tokens"),
        tokens=tokens,
        tokens_per_second=(tokens - 1) / (last - first) if tokens and tokens > 1 and last > first else None,
        answer="".join(text),
        error=error or ("" if text else "the answer was empty"),
    )


async def measure_load(ask: Ask, model: str, prompt: str, max_tokens: int, runs: int, at_once: int) -> Load:
    """`runs` requests, `at_once` of them at a time."""
    room = asyncio.Semaphore(at_once)

    async def one(number: int) -> Measured:
        async with room:
            return await measure(ask, model, f"{_mark()} {prompt}", max_tokens)

    started = time.perf_counter()
    found = await asyncio.gather(*(one(i) for i in range(runs)))
    took = time.perf_counter() - started
    good = [m for m in found if m.ok]
    firsts = [m.first_token_ms for m in good if m.first_token_ms is not None]
    speeds = [m.tokens_per_second for m in good if m.tokens_per_second is not None]
    counted = [m.tokens for m in good if m.tokens is not None]
    return Load(
        requests=runs,
        at_once=at_once,
        failed=runs - len(good),
        seconds=took,
        first_token_ms=statistics.median(firsts) if firsts else None,
        worst_first_token_ms=max(firsts, default=None),
        tokens_per_second=statistics.median(speeds) if speeds else None,
        all_tokens_per_second=sum(counted) / took if counted and len(counted) == len(good) else None,
        error=next((m.error for m in found if not m.ok), ""),
    )


async def measure_context(ask: Ask, model: str, asked: int) -> Context:
    """One prompt that fills a context of `asked` tokens, with a word at its beginning to be said at its end."""
    counts = []
    for words in _SAMPLES:
        sample = await measure(ask, model, _prompt(_mark(), words), 1)
        if sample.error and not sample.prompt_tokens:
            return Context(ok=False, asked=asked, error=sample.error)
        if sample.prompt_tokens is None:
            return Context(ok=False, asked=asked, error="the backend counts no tokens: its context cannot be measured")
        counts.append(sample.prompt_tokens)
    each = (counts[1] - counts[0]) * len(_WORDS) / (_SAMPLES[1] - _SAMPLES[0])
    if each < len(_WORDS) / 2:
        return Context(ok=False, asked=asked, counted=counts[1], error=_cut(_SAMPLES[1], counts[1], "words"))
    rounds = int((asked - _ANSWER_TOKENS - counts[0]) / each)
    if rounds < 1:
        least = round(counts[0] + each + _ANSWER_TOKENS)
        return Context(ok=False, asked=asked, error=f"too short to be measured: ask for at least {least} tokens")
    words = _SAMPLES[0] + rounds * len(_WORDS)
    sent = round(counts[0] + rounds * each)
    mark = _mark()
    found = await measure(ask, model, _prompt(mark, words), _ANSWER_TOKENS)
    counted, error = found.prompt_tokens, found.error
    if not error and counted is None:
        error = "the backend did not count the tokens of the long prompt"
    if not error and counted is not None and counted < WHOLE * sent:
        error = _cut(sent, counted, "tokens")
    seconds = (found.first_token_ms or 0.0) / 1000
    return Context(
        ok=not error,
        asked=asked,
        sent=sent,
        counted=counted,
        recalled=mark in found.answer.lower(),
        first_token_ms=found.first_token_ms,
        tokens_per_second=counted / seconds if counted and seconds and not error else None,
        error=error,
    )


def _cut(sent: int, counted: int, what: str) -> str:
    return (
        f"the backend counted {counted} tokens of a prompt of {sent} {what}: it cuts prompts without a word; its"
        " context is shorter than what was asked for (contextLength of the model, the engine's own setting)"
    )


def _mark() -> str:
    return f"amber{random.randrange(1000, 10_000)}"


def _prompt(mark: str, words: int) -> str:
    """`words` words between the one to remember and the question."""
    filler = " ".join(itertools.islice(itertools.cycle(_WORDS), words))
    return f"{mark} is the secret word. Read on: {filler}. What is the secret word? Say only that word."


def _piece(frame: dict[str, Any]) -> str:
    """Text or reasoning of a frame's choices."""
    out = ""
    for choice in frame.get("choices") or ():
        delta = choice.get("delta") or {}
        out += delta.get("content") or delta.get("reasoning_content") or delta.get("reasoning") or ""
    return out
