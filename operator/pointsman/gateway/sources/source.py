"""What is known about where a gateway's table comes from: for readiness, metrics and `GET /v1/config`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class SourceStatus:
    """Files or the cluster, and how the last reading of it went. Times are Unix seconds."""

    kind: str
    """`manifests` or `cluster`."""
    place: str
    """The directory, or the namespace."""
    loaded: bool = False
    """True once a table was put into service; it stays so."""
    successful: bool = True
    """Did the last reading succeed? False: the last good table is still in service."""
    loaded_at: float = 0.0
    """When the table in service was read."""
    failed_at: float = 0.0
    problems: tuple[str, ...] = ()
    """What is wrong with the last reading; empty when it succeeded."""
    reloads: int = 0
    """Tables put into service."""
    wall: Callable[[], float] = field(default=time.time, repr=False)

    def succeeded(self) -> None:
        """A table was put into service."""
        self.loaded = self.successful = True
        self.loaded_at = self.wall()
        self.problems = ()
        self.reloads += 1

    def unchanged(self) -> None:
        """The reading succeeded and says the same as before."""
        self.successful = True
        self.problems = ()

    def failed(self, problems: tuple[str, ...]) -> None:
        self.successful = False
        self.failed_at = self.wall()
        self.problems = problems
