"""How a pull looks: a progress bar on a terminal, JSON lines elsewhere (in a pod's log)."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

import msgspec

from pointsman.domain.report import PullProgress

LINE_SECONDS = 5.0
"""A log line of mere figures comes this often."""


@contextmanager
def make_display(source: str, out: TextIO) -> Iterator[Callable[[PullProgress], None]]:
    """Something to call with each progress; the last one is Pulled or Failed."""
    if not out.isatty():
        yield JsonLines(source, out)
        return
    # Only where somebody looks: it takes a tenth of a second to load.
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    console = Console(file=out)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    last = PullProgress(state="Pulling")
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(source, total=None)

        def show(progress: PullProgress) -> None:
            nonlocal last
            last = progress
            bar.update(
                task,
                description=f"{progress.state} {source}",
                completed=progress.completed_bytes,
                total=progress.total_bytes or None,
            )

        yield show
    if last.state == "Failed":
        print(f"{last.reason}: {last.message}", file=sys.stderr)


class JsonLines:
    """One JSON object a line: at every step, and figures every few seconds."""

    def __init__(self, source: str, out: TextIO, now: Callable[[], float] = time.monotonic) -> None:
        self._source = source
        self._out = out
        self._now = now
        self._due = 0.0
        self._state = ("", "")

    def __call__(self, progress: PullProgress) -> None:
        state = (progress.state, progress.digest)
        if state == self._state and self._now() < self._due:
            return
        self._state = state
        self._due = self._now() + LINE_SECONDS
        line = {"at": round(time.time(), 3), "source": self._source, **msgspec.to_builtins(progress)}
        self._out.write(msgspec.json.encode(line).decode() + "\n")
        self._out.flush()
