"""How commands speak: plain columns as kubectl prints them, colour only on a terminal, JSON on request, exit codes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, NoReturn

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

EXIT_NOT_READY = 1
"""What was asked about is not ready, or the test did not succeed."""
EXIT_USAGE = 2
"""click's own: the command line is wrong."""
EXIT_UNREACHABLE = 3
"""No cluster, no gateway, no permission: nothing is known."""

GOOD = {"True", "Healthy", "Ready", "Pulled", "Served", "Success"}
BAD = {"False", "Unhealthy", "Failed"}


def console() -> Console:
    """Standard output. Off a terminal: no colour, and lines as long as they are."""
    terminal = sys.stdout.isatty()
    return Console(highlight=False, soft_wrap=True, width=None if terminal else 10_000)


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """Columns without lines. Cells that say a state are coloured by it."""
    out = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    for header in headers:
        out.add_column(header, no_wrap=header not in ("WHY", "MESSAGE"), overflow="fold")
    for row in rows:
        out.add_row(*(_cell(c) for c in row))
    return out


def _cell(text: str) -> Text:
    style = "green" if text in GOOD else "red" if text in BAD else "yellow" if text == "Unknown" else ""
    return Text(text, style=style)


def print_json(value: Any) -> None:
    """For `-o json`: one document, stable order."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def fail(message: str, code: int) -> NoReturn:
    """One line on standard error that says what to do, and the exit code."""
    click.echo(f"pointsman: {message}", err=True)
    sys.exit(code)


def ago(when: str | float | None, now: datetime | None = None) -> str:
    """`42s`, `3m`, `2h`, `5d` since an RFC 3339 time or Unix seconds; a dash when there is none."""
    if not when:
        return "-"
    then = datetime.fromtimestamp(when, UTC) if isinstance(when, int | float) else datetime.fromisoformat(when)
    seconds = max(0, int(((now or datetime.now(UTC)) - then).total_seconds()))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def milliseconds(value: float | None) -> str:
    """`4 ms`; a dash when unknown."""
    return "-" if value is None else f"{value:.0f} ms" if value >= 1 else "<1 ms"
