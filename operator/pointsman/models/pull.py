"""One pull, from a source to a model that Ollama serves: resolve, check room, fetch, verify, publish.

Decided here: the order of these steps, and what counts as there already. Whatever ends a pull, the next one goes on
from what it left. Nothing becomes visible in the store before all of it is whole and verified.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from pointsman.api.sources.ollama import OllamaSource, served_name
from pointsman.domain.report import PullProgress
from pointsman.models.auth import ANONYMOUS, Credentials
from pointsman.models.checkpoint import Checkpointer
from pointsman.models.download import Downloader
from pointsman.models.ensure import Ensurer
from pointsman.models.errors import PullError, PullReason
from pointsman.models.manifest import Descriptor, Manifest
from pointsman.models.partial import allocated_bytes
from pointsman.models.progress import Meter
from pointsman.models.registry import Registry
from pointsman.models.resolve import resolve
from pointsman.models.retry import Clockwork, RetryPolicy
from pointsman.models.store import Store, store_failure
from pointsman.models.threads import in_thread
from pointsman.models.transport import STALL_SECONDS, make_client

DEFAULT_PARALLEL = 8
DEFAULT_PART_SIZE = 64 << 20
SPACE_MARGIN = 32 << 20
"""Bytes that must stay free beyond the model's own."""
TICK_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class PullRequest:
    """What to pull, to where, and how."""

    source: OllamaSource
    store: Path
    digest: str | None = None
    """Pin: the manifest must have this digest."""
    credentials: Credentials = ANONYMOUS
    parallel: int = DEFAULT_PARALLEL
    """Parts at once, over all blobs."""
    part_size: int = DEFAULT_PART_SIZE
    """Bytes; also bounds what a kill costs."""
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    stall_seconds: float = STALL_SECONDS
    space_margin: int = SPACE_MARGIN
    clockwork: Clockwork = field(default_factory=Clockwork)


@dataclass(frozen=True, slots=True)
class Pulled:
    """What a pull brought about."""

    digest: str
    """`sha256:…` of the manifest."""
    total_bytes: int
    fetched_bytes: int
    """What came over the network in this run."""
    short_name: str
    served_name: str
    """What to send to Ollama for exactly this digest."""


async def pull(request: PullRequest, on_progress: Callable[[PullProgress], None] = lambda _: None) -> Pulled:
    """Pulls one model. `on_progress` is told at every step and each half second in between.

    Raises `PullError`; cancelling ends it within about a second, resumable.
    """
    try:
        async with make_client(request.parallel, request.stall_seconds) as client:
            return await _Pull(request, client, on_progress).run()
    except (PullError, OSError, ExceptionGroup) as error:
        raise _as_pull_error(error, request.store) from None


class _Pull:
    """The steps; their common values are the members."""

    def __init__(
        self, request: PullRequest, client: httpx.AsyncClient, on_progress: Callable[[PullProgress], None]
    ) -> None:
        clockwork = request.clockwork
        self._request = request
        self._store = Store(request.store)
        self._meter = Meter(clockwork.monotonic())
        self._checkpointer = Checkpointer(request.part_size)
        self._registry = Registry(client, request.source, request.credentials)
        self._ensurer = Ensurer(
            self._store,
            Downloader(
                self._registry,
                self._checkpointer,
                self._meter,
                asyncio.Semaphore(request.parallel),
                request.part_size,
                request.policy,
                clockwork,
            ),
        )
        self._on_progress = on_progress

    def _tell(self) -> None:
        self._on_progress(self._meter.snapshot(self._request.clockwork.monotonic()))

    async def run(self) -> Pulled:
        source, clockwork = self._request.source, self._request.clockwork
        self._tell()
        await in_thread(self._store.prepare)
        manifest = await self._resolve()
        self._meter.digest = manifest.digest
        self._meter.total_bytes = manifest.total_bytes
        self._tell()
        await in_thread(self._check_space, manifest)
        async with asyncio.TaskGroup() as group:
            helpers = [group.create_task(self._checkpointer.run()), group.create_task(self._tick())]
            await self._fetch_all(manifest)
            for helper in helpers:
                helper.cancel()
        await in_thread(self._store.publish, source, manifest, clockwork.wall())
        self._meter.state = "Pulled"
        self._tell()
        return Pulled(
            digest=manifest.digest,
            total_bytes=manifest.total_bytes,
            fetched_bytes=self._meter.fetched_bytes,
            short_name=source.short_name,
            served_name=served_name(source, manifest.digest),
        )

    async def _resolve(self) -> Manifest:
        """A pinned model that is here already needs no registry."""
        request = self._request
        if request.digest:
            here = await in_thread(self._store.pinned_manifest, request.source, request.digest)
            if here:
                return here
        return await resolve(self._registry, request.source, request.digest, request.policy, request.clockwork)

    def _check_space(self, manifest: Manifest) -> None:
        missing = [blob for blob in manifest.blobs if not self._store.has_blob(blob)]
        needed = sum(blob.size - allocated_bytes(self._store, blob) for blob in missing)
        if not needed:
            return
        free = self._store.free_bytes()
        if free < needed + self._request.space_margin:
            margin = self._request.space_margin
            raise PullError(
                PullReason.DISK_FULL,
                f"The model needs {_megabytes(needed)} MB more, and {_megabytes(margin)} MB to spare, but the volume "
                f"has {_megabytes(free)} MB free; make it larger or remove models.",
            )

    async def _tick(self) -> None:
        while True:
            await self._request.clockwork.sleep(TICK_SECONDS)
            self._tell()

    async def _fetch_all(self, manifest: Manifest) -> None:
        at_once = asyncio.Semaphore(self._request.parallel)

        async def one(blob: Descriptor) -> None:
            async with at_once:
                await self._ensurer.ensure(blob)

        async with asyncio.TaskGroup() as group:
            for blob in manifest.blobs:
                group.create_task(one(blob))


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.0f}"


def _as_pull_error(error: BaseException, root: Path) -> BaseException:
    """One failure of several that happened together: ours before the file system's; a bug as it is."""
    leaves = list(_leaves(error))
    for leaf in leaves:
        if isinstance(leaf, PullError):
            return leaf
    for leaf in leaves:
        if isinstance(leaf, OSError):
            return store_failure(leaf, root)
    return error


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _leaves(one)
    else:
        yield error
