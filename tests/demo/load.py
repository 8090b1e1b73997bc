"""Unmodified `openai` clients under way while something breaks, and what each of them saw."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

import openai


@dataclass
class Seen:
    """One request as its client saw it."""

    stream: bool
    started: float
    """Monotonic seconds, as all times here."""
    backend: str = ""
    first_content: float | None = None
    ended: float = 0.0
    text: str = ""
    error: str = ""

    @property
    def failed_before_content(self) -> bool:
        return bool(self.error) and self.first_content is None

    @property
    def broken_midway(self) -> bool:
        return bool(self.error) and self.first_content is not None

    @property
    def seconds(self) -> float:
        return self.ended - self.started


def client(base_url: str) -> openai.AsyncOpenAI:
    """No retries: what the gateway does must be enough."""
    return openai.AsyncOpenAI(base_url=f"{base_url}/v1", api_key="unused", max_retries=0, timeout=60)


async def ask(
    api: openai.AsyncOpenAI,
    model: str,
    *,
    stream: bool,
    max_tokens: int = 16,
    content: str = "Hello?",
    begun: asyncio.Event | None = None,
) -> Seen:
    """One request, to its end or its error. `begun` is set by a stream's first content."""
    seen = Seen(stream=stream, started=time.monotonic())
    messages: list[openai.types.chat.ChatCompletionMessageParam] = [{"role": "user", "content": content}]
    try:
        if stream:
            raw = await api.chat.completions.with_raw_response.create(
                model=model, messages=messages, max_tokens=max_tokens, stream=True
            )
            seen.backend = raw.headers.get("x-pointsman-backend", "")
            async for chunk in raw.parse():
                piece = chunk.choices[0].delta.content if chunk.choices else None
                if piece:
                    seen.first_content = seen.first_content or time.monotonic()
                    seen.text += piece
                    if begun is not None:
                        begun.set()
        else:
            plain = await api.chat.completions.with_raw_response.create(
                model=model, messages=messages, max_tokens=max_tokens
            )
            seen.backend = plain.headers.get("x-pointsman-backend", "")
            seen.text = plain.parse().choices[0].message.content or ""
    except openai.APIError as error:
        seen.error = f"{type(error).__name__}: {error.message}"
    seen.ended = time.monotonic()
    return seen


@dataclass
class Load:
    """`workers` clients that ask one after the other, half of them for streams, until told to stop."""

    base_url: str
    model: str
    workers: int = 4
    results: list[Seen] = field(default_factory=list)
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _ended: asyncio.Condition = field(default_factory=asyncio.Condition)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._work(stream=bool(n % 2))) for n in range(self.workers)]

    async def stop(self) -> list[Seen]:
        """Lets every request under way end, and gives all that were made."""
        self._stop.set()
        await asyncio.gather(*self._tasks)
        return self.results

    async def until(self, count: int, timeout: float = 60) -> None:
        """Waits until so many more requests have ended."""
        goal = len(self.results) + count
        async with asyncio.timeout(timeout), self._ended:
            await self._ended.wait_for(lambda: len(self.results) >= goal)

    async def _work(self, *, stream: bool) -> None:
        async with client(self.base_url) as api:
            while not self._stop.is_set():
                seen = await ask(api, self.model, stream=stream)
                async with self._ended:
                    self.results.append(seen)
                    self._ended.notify_all()
