"""`pointsman wait-model`: what a pod does before its server starts. The waiting itself is `models/wait.py`."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import click

from pointsman.models.errors import PullError
from pointsman.models.outcome import DEFAULT_TERMINATION_LOG
from pointsman.models.reference import read_pin, read_source
from pointsman.models.wait import wait_for_model

SAY_SECONDS = 60.0
"""Who waits long says so this often."""


@click.command("wait-model", short_help="Waits until a model is whole in a store.")
@click.argument("source")
@click.option("--store", type=click.Path(path_type=Path), required=True, help="Folder of the store.")
@click.option("--digest", help="The pin that it is pulled with (sha256:…).")
@click.option("--timeout", type=click.FloatRange(min=0), help="Seconds to wait at most; without end by default.")
def wait_model(source: str, store: Path, digest: str | None, timeout: float | None) -> None:
    """Wait until the model of SOURCE is whole in a store, and look whether a server could load it.

    Exit codes: 0 it is there; 20 the source cannot be read; 23 it is no model; 36 it did not come in time.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the first process of a container ignores it otherwise
    said = -SAY_SECONDS
    began = time.monotonic()

    def say() -> None:
        nonlocal said
        now = time.monotonic()
        if now - said >= SAY_SECONDS:
            said = now
            print(f"waiting for {source} to be pulled into {store} ({now - began:.0f} s)", flush=True)

    async def wait() -> tuple[Path, int]:
        async with asyncio.timeout(timeout):
            return await wait_for_model(read_source(source), read_pin(digest), store, asyncio.sleep, say)

    try:
        place, size = asyncio.run(wait())
    except PullError as error:
        _end(error.reason.exit_code, f"{error.reason}: {error.message}")
    except TimeoutError:
        _end(36, f"{source} did not come within {timeout:g} s; look at its pull Job.")
    print(f"{place} is whole: {size / 1e6:,.0f} MB", flush=True)


def _end(code: int, sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)
    if DEFAULT_TERMINATION_LOG.is_file():
        with suppress(OSError):
            DEFAULT_TERMINATION_LOG.write_text(sentence)
    raise SystemExit(code)
