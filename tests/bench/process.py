"""Programs pinned to a core, and the CPU time that their whole tree has used."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


class Process:
    def __init__(self, argv: Sequence[str], core: int, log: Path, cwd: Path | None = None) -> None:
        self._log = log.open("wb")
        self._popen = subprocess.Popen(
            ["taskset", "-c", str(core), *argv],
            stdout=self._log, stderr=subprocess.STDOUT, cwd=cwd, start_new_session=True,
        )  # fmt: skip
        self.log = log

    def wait_port(self, port: int, seconds: float = 30.0) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self._popen.poll() is not None:
                raise RuntimeError(f"ended at once: {self.log.read_text()[-800:]}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return
            time.sleep(0.05)
        raise RuntimeError(f"does not listen on {port}: {self.log.read_text()[-800:]}")

    def _tree(self) -> list[int]:
        parents: dict[int, list[int]] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    parents.setdefault(int(_stat(entry)[1]), []).append(int(entry.name))
        tree = [self._popen.pid]
        for pid in tree:
            tree += parents.get(pid, [])
        return tree

    def cpu_seconds(self) -> float:
        """User and system time of the process and all below it."""
        ticks = 0
        for pid in self._tree():
            with contextlib.suppress(OSError):
                fields = _stat(Path("/proc") / str(pid))
                ticks += int(fields[11]) + int(fields[12])
        return ticks / _TICKS

    def memory_mb(self) -> float:
        """Proportional set size of the tree."""
        kb = 0
        for pid in self._tree():
            with contextlib.suppress(OSError):
                for line in (Path("/proc") / str(pid) / "smaps_rollup").read_text().splitlines():
                    if line.startswith("Pss:"):
                        kb += int(line.split()[1])
        return kb / 1024

    def stop(self) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._popen.pid, number)
            try:
                self._popen.wait(3)
                break
            except subprocess.TimeoutExpired:
                continue
        self._log.close()


def _stat(proc: Path) -> list[str]:
    """The fields of /proc/PID/stat after the name: state, parent, …"""
    return (proc / "stat").read_text().rpartition(")")[2].split()


@contextmanager
def running(argv: Sequence[str], core: int, port: int, log: Path, cwd: Path | None = None) -> Iterator[Process]:
    process = Process(argv, core, log, cwd)
    try:
        process.wait_port(port)
        yield process
    finally:
        process.stop()
