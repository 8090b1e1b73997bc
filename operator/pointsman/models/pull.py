"""One pull, from a source to a model in a store: resolve, check room, fetch, verify, publish.

Decided here: the order of these steps. Whatever ends a pull, the next one goes on from what it left. Nothing becomes
visible in the store before all of it is whole and verified.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path

from pointsman.api.sources.pvc import CLAIMS_PATH, PvcSource
from pointsman.api.sources.source import Source
from pointsman.domain.report import PullProgress
from pointsman.models.auth import ANONYMOUS, Credentials
from pointsman.models.blob import Blob
from pointsman.models.checkpoint import Checkpointer
from pointsman.models.claim import look_at_claim
from pointsman.models.download import Downloader
from pointsman.models.ensure import Ensurer
from pointsman.models.errand import Errand, Goal, Published
from pointsman.models.errands import errand_for
from pointsman.models.errors import PullError, PullReason
from pointsman.models.occupancy import pulling
from pointsman.models.partial import allocated_bytes
from pointsman.models.progress import Meter
from pointsman.models.retry import Clockwork, RetryPolicy
from pointsman.models.secret_folder import SecretFolder
from pointsman.models.threads import in_thread
from pointsman.models.transport import STALL_SECONDS, make_client, make_trust
from pointsman.models.volume import free_bytes, store_failure

DEFAULT_PARALLEL = 5
DEFAULT_PART_SIZE = 64 << 20
SPACE_MARGIN = 32 << 20
"""Bytes that must stay free beyond the model's own."""
TICK_SECONDS = 0.5


class Refresh(StrEnum):
    """Is the source asked when the model is in the store already? A pinned one never is."""

    NEVER = "Never"
    ON_CHANGE = "OnChange"
    """What it names now is compared, and fetched when it is another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PullRequest:
    """What to pull, to where, and how."""

    source: Source
    store: Path
    digest: str | None = None
    """Pin: the model must have this digest."""
    credentials: Credentials = ANONYMOUS
    secret: SecretFolder = field(default_factory=lambda: SecretFolder(None))
    """What else the model's Secret holds."""
    claims: Path = Path(CLAIMS_PATH)
    """Where claims are mounted, each under its name."""
    refresh: Refresh = Refresh.ON_CHANGE
    verify: bool = False
    """Hash again what is in the store, and fetch anew what is damaged."""
    parallel: int = DEFAULT_PARALLEL
    """Parts at once, over all blobs."""
    part_size: int = DEFAULT_PART_SIZE
    """Bytes; also bounds what a kill costs."""
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    stall_seconds: float = STALL_SECONDS
    space_margin: int = SPACE_MARGIN
    clockwork: Clockwork = field(default_factory=Clockwork)


@dataclass(frozen=True, slots=True)
class Pulled(Published):
    """What a pull brought about."""

    fetched_bytes: int = 0
    """What came over the network in this run."""


async def pull(request: PullRequest, on_progress: Callable[[PullProgress], None] = lambda _: None) -> Pulled:
    """Pulls one model. `on_progress` is told at every step and each half second in between.

    Raises `PullError`; cancelling ends it within about a second, resumable.
    """
    if isinstance(request.source, PvcSource):
        return await _look_at_claim(request, request.source, on_progress)
    try:
        trust = make_trust(request.secret.text("ca.crt"))
        async with make_client(request.parallel, trust, request.stall_seconds) as client:
            errand = errand_for(
                request.source,
                request.digest,
                request.store,
                client,
                trust,
                request.credentials,
                request.secret,
                request.policy,
                request.clockwork,
                never_refresh=request.refresh is Refresh.NEVER,
                verify=request.verify,
            )
            return await _Pull(request, errand, on_progress).run()
    except (PullError, OSError, ExceptionGroup) as error:
        raise _as_pull_error(error, request.store) from None


async def _look_at_claim(
    request: PullRequest, source: PvcSource, on_progress: Callable[[PullProgress], None]
) -> Pulled:
    """Nothing is fetched: what is in the claim is looked at, and hashed."""
    clockwork = request.clockwork
    meter = Meter(clockwork.monotonic(), state="Verifying")

    def tell() -> None:
        on_progress(meter.snapshot(clockwork.monotonic()))

    async def tick() -> None:
        while True:
            tell()
            await clockwork.sleep(TICK_SECONDS)

    ticking = asyncio.create_task(tick())
    try:
        model = await look_at_claim(source, request.digest, request.claims, meter)
    except OSError as error:
        raise store_failure(error, request.claims / source.claim) from None
    finally:
        ticking.cancel()
    meter.state, meter.digest = "Pulled", model.digest
    tell()
    return Pulled(**asdict(model))


class _Pull:
    """The steps; their common values are the members."""

    def __init__(self, request: PullRequest, errand: Errand, on_progress: Callable[[PullProgress], None]) -> None:
        clockwork = request.clockwork
        self._request = request
        self._errand = errand
        self._meter = Meter(clockwork.monotonic())
        self._checkpointer = Checkpointer(request.part_size)
        self._ensurer = Ensurer(
            errand.pool,
            Downloader(
                errand.bytes,
                self._checkpointer,
                self._meter,
                asyncio.Semaphore(request.parallel),
                request.part_size,
                request.policy,
                clockwork,
            ),
            verify=request.verify,
        )
        self._on_progress = on_progress

    def _tell(self) -> None:
        self._on_progress(self._meter.snapshot(self._request.clockwork.monotonic()))

    async def run(self) -> Pulled:
        self._tell()
        with ExitStack() as held:
            await in_thread(self._errand.prepare)
            await in_thread(held.enter_context, pulling(self._request.store))
            return await self._run()

    async def _run(self) -> Pulled:
        model = None if self._request.verify else await in_thread(self._errand.find)
        if model is None:
            model = await self._fetch_and_publish()
        else:
            self._aim(model.digest, model.total_bytes)
            self._meter.found(model.total_bytes)
        self._meter.state, self._meter.digest = "Pulled", model.digest
        self._tell()
        return Pulled(**asdict(model), fetched_bytes=self._meter.fetched_bytes)

    def _aim(self, digest: str, total_bytes: int) -> None:
        self._meter.digest, self._meter.total_bytes = digest, total_bytes
        self._tell()

    async def _fetch_and_publish(self) -> Published:
        goal = await self._errand.resolve()
        self._aim(goal.digest, goal.total_bytes)
        await in_thread(self._check_space, goal)
        async with asyncio.TaskGroup() as group:
            helpers = [group.create_task(self._checkpointer.run()), group.create_task(self._tick())]
            digests = await self._fetch_all(goal)
            await self._errand.arrange(digests)
            for helper in helpers:
                helper.cancel()
        return await in_thread(self._errand.publish, digests, self._request.clockwork.wall())

    def _check_space(self, goal: Goal) -> None:
        pool = self._errand.pool
        missing = [blob for blob in goal.blobs if not pool.has(blob)]
        needed = sum(blob.size - allocated_bytes(pool, blob) for blob in missing)
        if not needed:
            return
        free = free_bytes(self._request.store)
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

    async def _fetch_all(self, goal: Goal) -> dict[str, str]:
        """The digest of each blob, by its `file_name`."""
        at_once = asyncio.Semaphore(self._request.parallel)

        async def one(blob: Blob) -> str:
            async with at_once:
                return await self._ensurer.ensure(blob)

        async with asyncio.TaskGroup() as group:
            tasks = {blob.file_name: group.create_task(one(blob)) for blob in goal.blobs}
        return {name: task.result() for name, task in tasks.items()}


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
