"""The program a pull Job runs: one pull, its report, its outcome, its end.

Decided here: what happens around the pull (report server, signals, termination message, exit code). A signal ends it
within about a second; what was fetched stays for the next run. The final report is held until a subscriber has it, for
`hold_seconds` at most: whoever comes later reads the termination message.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pointsman.api.sources.ollama import OllamaSource, served_path_parts
from pointsman.api.sources.pvc import CLAIMS_PATH
from pointsman.domain.figures import Figures
from pointsman.domain.report import PullProgress
from pointsman.models.auth import read_credentials
from pointsman.models.errors import PullError, PullReason
from pointsman.models.figures import read_figures, read_ollama_figures
from pointsman.models.model_check import formats
from pointsman.models.outcome import PullOutcome, failed, succeeded, write_outcome
from pointsman.models.pull import DEFAULT_PARALLEL, DEFAULT_PART_SIZE, Pulled, PullRequest, Refresh, pull
from pointsman.models.reference import read_pin, read_source
from pointsman.models.secret_folder import SecretFolder
from pointsman.models.threads import in_thread

if TYPE_CHECKING:
    from pointsman.models.report import ReportServer

T = TypeVar("T")
HOLD_SECONDS = 10.0
_INTERRUPTED_HOLD_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class PullOptions:
    """The command line, as it came."""

    source: str
    store: Path
    digest: str | None = None
    insecure: bool = False
    """Plain HTTP to a registry of Ollama's."""
    parallel: int = DEFAULT_PARALLEL
    part_size: int = DEFAULT_PART_SIZE
    """Bytes."""
    username: str | None = None
    password_file: Path | None = None
    token_file: Path | None = None
    secret_folder: Path | None = None
    """The model's Secret, mounted as a folder."""
    claims: Path = Path(CLAIMS_PATH)
    refresh: Refresh = Refresh.ON_CHANGE
    verify: bool = False
    report_host: str | None = None
    """None: all addresses."""
    report_port: int = 0
    """0: no report is served."""
    report_token: str = ""
    termination_log: Path | None = None
    """None: `/dev/termination-log` where there is one."""
    hold_seconds: float = HOLD_SECONDS


async def run_pull(options: PullOptions, show: Callable[[PullProgress], None] = lambda _: None) -> PullOutcome:
    """Pulls, reports, and returns how it ended (`exit_code` is the process's). `show` gets each progress, the final
    one included. Runs in the main thread: it takes SIGTERM and SIGINT."""
    last = PullProgress(state="Pulling")
    with _Signals() as signals:
        async with AsyncExitStack() as stack:
            server: ReportServer | None = None
            try:
                server = await _serve_report(options, stack)
                outcome, last = await _pull(options, server, show, signals)
            except PullError as error:  # no report could be served
                outcome = failed(error, last)
            last = outcome.progress(last)
            write_outcome(outcome, options.termination_log)
            show(last)
            if server:
                await server.publish(last, final=True)
                hold = _INTERRUPTED_HOLD_SECONDS if signals.caught else options.hold_seconds
                with suppress(asyncio.CancelledError):
                    await signals.stop_on(asyncio.create_task(server.settle(hold)))
    return outcome


async def _serve_report(options: PullOptions, stack: AsyncExitStack) -> ReportServer | None:
    if not options.report_port:
        return None
    if not options.report_token:
        raise PullError(
            PullReason.BAD_CONFIGURATION,
            "A report is served only with a token; set POINTSMAN_REPORT_TOKEN or POINTSMAN_REPORT_TOKEN_FILE.",
        )
    from pointsman.models.report import ReportServer  # a web server takes 0.2 s to load

    server = ReportServer(options.source, options.report_token, host=options.report_host, port=options.report_port)
    try:
        return await stack.enter_async_context(server)
    except OSError:
        raise PullError(
            PullReason.BAD_CONFIGURATION, f"Cannot serve the report on port {options.report_port}; is it taken?"
        ) from None


async def _pull(
    options: PullOptions, server: ReportServer | None, show: Callable[[PullProgress], None], signals: _Signals
) -> tuple[PullOutcome, PullProgress]:
    last = PullProgress(state="Pulling")
    news: asyncio.Queue[PullProgress] = asyncio.Queue()

    def tell(progress: PullProgress) -> None:
        nonlocal last
        last = progress
        if progress.state == "Pulled":
            return  # the outcome says it
        show(progress)
        news.put_nowait(progress)

    async def forward() -> None:
        while server:
            await server.publish(await news.get())

    forwarding = asyncio.create_task(forward())
    try:
        pulled = await signals.stop_on(asyncio.create_task(_read_and_pull(options, tell)))
        return await in_thread(_told, options, pulled), last
    except PullError as error:
        return failed(error, last), last
    except asyncio.CancelledError:
        if not signals.caught:
            raise
        stopped = PullError(PullReason.INTERRUPTED, "The pull was stopped; the next one goes on where it stopped.")
        return failed(stopped, last, exit_code=128 + signals.caught), last
    finally:
        forwarding.cancel()


def _told(options: PullOptions, pulled: Pulled) -> PullOutcome:
    """What is said of a model that is there."""
    found = formats(options.store / pulled.path) if pulled.path else None
    return succeeded(pulled, _figures(options, pulled), found)


def _figures(options: PullOptions, pulled: Pulled) -> Figures | None:
    """What decides the memory of the model that was pulled."""
    if pulled.path:
        return read_figures(options.store / pulled.path)
    source = read_source(options.source, insecure=options.insecure)
    if not isinstance(source, OllamaSource):
        return None
    parts = served_path_parts(source, pulled.digest)
    return read_ollama_figures(options.store, options.store.joinpath("manifests", *parts))


async def _read_and_pull(options: PullOptions, tell: Callable[[PullProgress], None]) -> Pulled:
    secret = SecretFolder(options.secret_folder, os.environ)
    request = PullRequest(
        source=read_source(options.source, insecure=options.insecure),
        store=options.store,
        digest=read_pin(options.digest),
        credentials=read_credentials(options.username, options.password_file, options.token_file),
        secret=secret,
        claims=options.claims,
        refresh=options.refresh,
        verify=options.verify,
        parallel=options.parallel,
        part_size=options.part_size,
    )
    return await pull(request, tell)


class _Signals:
    """SIGTERM and SIGINT, which end whatever task is current, instead of the process."""

    _NUMBERS = (signal.SIGTERM, signal.SIGINT)

    def __init__(self) -> None:
        self.caught = 0
        """The first signal that came."""
        self._task: asyncio.Task[Any] | None = None
        self._stopped: asyncio.Task[Any] | None = None

    def __enter__(self) -> _Signals:
        for number in self._NUMBERS:
            asyncio.get_running_loop().add_signal_handler(number, self._stop, number)
        return self

    def __exit__(self, *_: object) -> None:
        for number in self._NUMBERS:
            asyncio.get_running_loop().remove_signal_handler(number)

    async def stop_on(self, task: asyncio.Task[T]) -> T:
        """The task's result; the task is cancelled by a signal. Once: a second one would only lose what is fetched."""
        self._task = task
        return await task

    def _stop(self, number: int) -> None:
        if not self.caught or self._task is not self._stopped:
            self.caught = self.caught or number
            self._stopped = self._task
            if self._task:
                self._task.cancel()
