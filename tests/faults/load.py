"""The clients of a run, in a process of their own: `python -m tests.faults.load FOLDER SEED URL REQUESTS WORKERS RATE`.

Each worker has one connection and asks one request after another, RATE a second in all; a connection that ends is
replaced. Writes what each
request got to `FOLDER/asked.jsonl`.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import uvloop
from tests.faults.values import Asked, checksum, write
from tests.faults.world import World

from pointsman.conform.observed import Answer

LARGE = 70_000
"""Bytes of the prompt of a large request; thrice as many where it is escaped. The gateway's patience grows with them,
and must not outgrow `TOTAL`: what a stalled backend did would then be told by nobody."""
GIVE_UP = 60.0
"""Seconds after which a client calls its request lost. The gateway must have answered long before."""


class Plan:
    """What a client does with one request, drawn from the seed."""

    def __init__(self, seed: int, number: int, models: list[str]) -> None:
        draw = random.Random(f"{seed}/client/{number}")
        self.id = f"q{number}"
        self.model = draw.choice(models)
        self.stream = draw.random() < 0.5
        self.fallback = draw.random() >= 0.01
        self.usage = self.stream and draw.random() < 0.1
        self.leaves = draw.choice(("asked", "head", "content")) if draw.random() < 0.015 else ""
        self.after = draw.uniform(0.0, 0.05)
        self.way = draw.choices(("plain", "chunked", "expect", "dribble"), (94, 2, 2, 2))[0]
        self.slow = draw.random() < 0.005
        prompt = f"<{self.id}> " + ("ü" * (LARGE // 2) if draw.random() < 0.02 else "say something")
        messages = [{"role": "user", "content": prompt}]
        body = {"model": self.model, "messages": messages, "user": checksum(messages, self.stream)}
        if self.stream:
            body["stream"] = True
        if self.usage:
            body["stream_options"] = {"include_usage": True}
        self.body = json.dumps(body, ensure_ascii=draw.random() < 0.5).encode()

    def head(self) -> bytes:
        lines = [
            "POST /v1/chat/completions HTTP/1.1", "host: gateway", "content-type: application/json",
            f"x-request-id: {self.id}",
        ]  # fmt: skip
        lines.append("transfer-encoding: chunked" if self.way == "chunked" else f"content-length: {len(self.body)}")
        if self.way == "expect":
            lines.append("expect: 100-continue")
        if not self.fallback:
            lines.append("x-pointsman-fallback: none")
        return "\r\n".join(lines).encode() + b"\r\n\r\n"


class Worker:
    def __init__(self, host: str, port: int) -> None:
        self._address = host, port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, plan: Plan) -> Asked:
        asked = Asked(plan.id, plan.model, plan.stream, plan.fallback, plan.usage, time.monotonic(), 0.0)
        try:
            async with asyncio.timeout(GIVE_UP):
                await self._ask(plan, asked)
        except (TimeoutError, ConnectionError, asyncio.IncompleteReadError, ValueError):
            self.close()
        asked.done = time.monotonic()
        return asked

    async def _ask(self, plan: Plan, asked: Asked) -> None:
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(*self._address, limit=64 << 20)
        reader, writer = self._reader, self._writer
        assert reader is not None
        await self._send(plan, reader, writer)
        if plan.leaves == "asked":
            await asyncio.sleep(plan.after)
            return self._leave(plan, asked)
        status, headers = await _head(reader)
        while status < 200:
            status, headers = await _head(reader)
        asked.status = status
        asked.head = time.monotonic()
        asked.backend = headers.get("x-pointsman-backend", "")
        asked.attempts = int(headers.get("x-pointsman-attempts", "-1"))
        asked.trial = headers.get("x-pointsman-trial", "")
        asked.verdict = headers.get("x-pointsman-verdict", "")
        asked.retry_after = headers.get("retry-after", "")
        if plan.leaves == "head":
            return self._leave(plan, asked)
        body = bytearray()
        whole = True
        try:
            if headers.get("transfer-encoding") == "chunked":
                while size := int(await reader.readuntil(b"\r\n"), 16):
                    body += (await reader.readexactly(size + 2))[:-2]
                    if plan.leaves:
                        return self._leave(plan, asked)
                    if plan.slow:
                        await asyncio.sleep(0.05)
                await reader.readexactly(2)
            else:
                body += await reader.readexactly(int(headers["content-length"]))
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            whole = False
            body += getattr(error, "partial", b"")
            self.close()
        if headers.get("connection") == "close":
            self.close()
        answer = Answer(status, headers, bytes(body), whole, plan.stream)
        asked.whole = whole
        asked.text = answer.text
        if answer.is_events:
            asked.finished = answer.finished
            asked.done_events, asked.error_events, asked.broken_events = answer.done, answer.errors, answer.broken
            if not answer.text:
                asked.body = body[:4096].decode("utf-8", "replace")
            if asked.attempts < 0:
                _read_comments(asked, bytes(body))
        else:
            asked.body = body[:4096].decode("utf-8", "replace")
        return None

    async def _send(self, plan: Plan, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if plan.way == "plain":
            writer.write(plan.head() + plan.body)
        elif plan.way == "chunked":
            third = len(plan.body) // 3
            parts = (plan.body[:third], plan.body[third:], b"")
            writer.write(plan.head() + b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in parts))
        elif plan.way == "expect":
            writer.write(plan.head())
            status, _ = await _head(reader)
            if status != 100:
                raise ConnectionError(f"{status} came where 100 Continue should")
            writer.write(plan.body)
        else:
            data = plan.head() + plan.body
            for part in (data[:70], data[70:300], data[300:]):
                writer.write(part)
                await asyncio.sleep(0.002)
        await writer.drain()

    def _leave(self, plan: Plan, asked: Asked) -> None:
        asked.left = plan.leaves
        self.close()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()
        self._reader = self._writer = None


def _read_comments(asked: Asked, body: bytes) -> None:
    """What a head could not say that went out early."""
    asked.patient = True
    said = dict(line[2:].decode().split(": ", 1) for line in body.split(b"\n") if line.startswith(b": x-pointsman-"))
    asked.backend = said.get("x-pointsman-backend", "")
    asked.attempts = int(said.get("x-pointsman-attempts", "-1"))
    asked.trial = said.get("x-pointsman-trial", "")
    asked.verdict = said.get("x-pointsman-verdict", "")


async def _head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *rest = head.strip().split("\r\n")
    return int(first.split()[1]), {k.lower(): v.strip() for k, _, v in (h.partition(":") for h in rest)}


async def load(folder: Path, seed: int, url: str, requests: int, workers: int, rate: float) -> None:
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    host, port = parts.hostname, parts.port
    models = list(World(seed).routes)
    numbers, order = itertools.count(), itertools.count()
    finished: list[Asked] = []

    async def work() -> None:
        worker = Worker(host, port)
        pause = random.Random(f"{seed}/pause/{next(order)}")
        while (number := next(numbers)) < requests:
            await asyncio.sleep(pause.expovariate(rate / workers))
            finished.append(await worker.ask(Plan(seed, number, models)))
            if len(finished) >= 500:
                write(folder / "asked.jsonl", finished)
                finished.clear()
        worker.close()

    await asyncio.gather(*(work() for _ in range(workers)))
    write(folder / "asked.jsonl", finished)


if __name__ == "__main__":
    uvloop.run(
        load(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5]), float(sys.argv[6]))
    )
