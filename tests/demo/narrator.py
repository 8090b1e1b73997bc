"""Says what happens, and how long each step took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console


class Narrator:
    """Prints steps with their times; lines in between are indented below them."""

    def __init__(self) -> None:
        self._out = Console(highlight=False, soft_wrap=True)
        self._begun = time.monotonic()

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """A step: its title at once, its time when it is done."""
        self._out.print(f"\n[bold]▸ {title}[/bold]")
        began = time.monotonic()
        yield
        self._out.print(f"  [dim]{time.monotonic() - began:.1f} s[/dim]")

    def say(self, text: str) -> None:
        for line in text.rstrip().splitlines():
            self._out.print(f"  {line}", markup=False)

    def done(self) -> None:
        self._out.print(f"\n[bold]Done after {time.monotonic() - self._begun:.0f} s.[/bold]")
