"""What the cluster's side of a run was: every version of the Deployment, every pod that went, as they were watched."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import json
import os
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from tests.cluster import programs
from tests.demo.stage import Stage


@dataclass(frozen=True)
class Change:
    """The Deployment's number became another one. Unix seconds."""

    at: float
    before: int
    after: int


@dataclass
class Watched:
    """What was seen of one backend so far. Times are Unix seconds."""

    replicas: int | None = None
    ready: int = 0
    changes: list[Change] = field(default_factory=list)
    ready_at: list[tuple[float, int]] = field(default_factory=list)
    writers: set[str] = field(default_factory=set)
    """Field managers that own the Deployment's number, of all versions."""
    generations: list[int] = field(default_factory=list)
    pods: dict[str, float | None] = field(default_factory=dict)
    """Every pod that became ready, and when it was told to go."""
    news: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def unseen(self) -> int:
        """Changes of the Deployment's spec beyond those of its number."""
        return self.generations[-1] - self.generations[0] - len(self.changes)

    def deployment(self, live: dict[str, Any]) -> None:
        now, number = time.time(), int(live["spec"]["replicas"])
        if self.replicas is not None and number != self.replicas:
            self.changes.append(Change(now, self.replicas, number))
        self.replicas, self.ready = number, int(live.get("status", {}).get("readyReplicas") or 0)
        if not self.ready_at or self.ready_at[-1][1] != self.ready:
            self.ready_at.append((now, self.ready))
        self.generations.append(int(live["metadata"]["generation"]))
        for entry in live["metadata"]["managedFields"]:
            if "f:replicas" in entry.get("fieldsV1", {}).get("f:spec", {}):
                self.writers.add(entry["manager"])

    def pod(self, live: dict[str, Any]) -> None:
        name = live["metadata"]["name"]
        if live["metadata"].get("deletionTimestamp"):
            if name in self.pods and self.pods[name] is None:
                self.pods[name] = time.time()
        elif any(c["type"] == "Ready" and c["status"] == "True" for c in live.get("status", {}).get("conditions", ())):
            self.pods.setdefault(name, None)

    async def until(self, condition: Callable[[Watched], bool], what: str, seconds: float) -> None:
        """Raises AssertionError with `what` when it does not come true in time."""
        try:
            async with asyncio.timeout(seconds):
                while not condition(self):
                    self.news.clear()
                    await self.news.wait()
        except TimeoutError:
            raise AssertionError(f"not within {seconds:.0f} s: {what}; there are {self.replicas}") from None


@contextlib.asynccontextmanager
async def watching(stage: Stage, name: str) -> AsyncIterator[Watched]:
    """Looks at a backend's Deployment and pods until left."""
    seen = Watched()
    pods = ("pods", "-l", f"pointsman.dev/backend={name}")
    tasks = [
        asyncio.create_task(_follow(stage, ("deployment", f"pmb-{name}"), seen, seen.deployment)),
        asyncio.create_task(_follow(stage, pods, seen, seen.pod)),
    ]
    try:
        await seen.until(lambda s: s.replicas is not None, "the Deployment is there", 60)
        yield seen
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _follow(stage: Stage, what: tuple[str, ...], seen: Watched, note: Callable[[dict[str, Any]], None]) -> None:
    """Every version, beginning with the one that is there; the API server ends a watch after half an hour or more."""
    kubectl = programs.ensure(["kubectl"])["kubectl"]
    command = (str(kubectl), "-n", stage.namespace, "get", *what, "-o", "json", "--watch", "--show-managed-fields")
    while True:
        process = await asyncio.create_subprocess_exec(
            *command,
            env={**os.environ, **stage.cluster.environment()},
            stdout=asyncio.subprocess.PIPE,
            stdin=asyncio.subprocess.DEVNULL,
        )
        try:
            async for value in _values(process):
                for live in value.get("items", [value]):
                    note(live)
                seen.news.set()
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def _values(process: asyncio.subprocess.Process) -> AsyncIterator[dict[str, Any]]:
    """The JSON values that it prints, one after the other."""
    assert process.stdout is not None
    decoder, characters, text = json.JSONDecoder(), codecs.getincrementaldecoder("utf-8")(), ""
    while piece := await process.stdout.read(1 << 16):
        text += characters.decode(piece)
        while text := text.lstrip():
            try:
                value, end = decoder.raw_decode(text)
            except json.JSONDecodeError:
                break
            yield value
            text = text[end:]
