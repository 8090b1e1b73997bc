"""A server that is a program: started, waited for until it answers, ended by its own process id, and started again."""

from __future__ import annotations

import os
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

START_SECONDS = 20.0


class ServerProgram(ABC):
    """A process of its own while used as a context manager."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> Sequence[str | Path]:
        """What is run; everything that it reads is there when this returns."""

    @abstractmethod
    def answers(self) -> bool:
        """Does it take requests?"""

    def environment(self) -> Mapping[str, str]:
        """What is set beside this process's own."""
        return {}

    def output(self) -> Path:
        """Where what it prints is kept."""
        return Path(os.devnull)

    def __enter__(self) -> Self:
        command = [*self.command()]
        with self.output().open("ab") as kept:
            self._process = subprocess.Popen(
                command, env={**os.environ, **self.environment()}, stdout=kept, stderr=subprocess.DEVNULL
            )
        deadline = time.monotonic() + START_SECONDS
        while not self.answers():
            assert self._process.poll() is None, f"{type(self).__name__} ended"
            assert time.monotonic() < deadline, f"{type(self).__name__} does not answer"
            time.sleep(0.05)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        assert self._process
        self._process.terminate()
        self._process.wait(10)

    def restart(self) -> None:
        """Ends it, breaking off what is under way, and starts it again on the same port."""
        self._end()
        self.__enter__()
