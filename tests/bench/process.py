"""Programs pinned to a core: their CPU time, memory and open files, with those of all below them."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

GATEWAY_CORE, LOAD_CORE = 0, 1
_TICKS = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")


def raise_descriptors() -> int:
    """Lets this process, and what it starts, open as many files as the machine allows; returns that number."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


class Process:
    """`log` gets its standard error, `out` its output: the log too when not given."""

    def __init__(
        self,
        argv: Sequence[str],
        core: int,
        log: Path,
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        out: Path | None = None,
    ) -> None:
        self.log = log
        with log.open("wb") as errors, (out or log).open("ab") as output:
            self._popen = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "taskset", "-c", str(core % (os.cpu_count() or 1)), *argv],
                stdout=output, stderr=errors, cwd=cwd, env={**os.environ, **(env or {})}, start_new_session=True,
            )  # fmt: skip

    def wait_port(self, port: int, seconds: float = 60.0) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.check()
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return
            time.sleep(0.05)
        raise RuntimeError(f"does not listen on {port}: {self._last_words()}")

    def check(self) -> None:
        """Raises RuntimeError when it has ended."""
        if self._popen.poll() is not None:
            raise RuntimeError(f"ended with {self._popen.returncode}: {self._last_words()}")

    def _last_words(self) -> str:
        return self.log.read_text(errors="replace").strip()[-800:]

    def _tree(self) -> list[int]:
        parents: dict[int, list[int]] = {}
        for entry in _PROC.iterdir():
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
                fields = _stat(_PROC / str(pid))
                ticks += int(fields[11]) + int(fields[12])
        return ticks / _TICKS

    def memory_mb(self) -> float:
        """Proportional set size of the tree."""
        return self._memory("smaps_rollup", "Pss:")

    def resident_mb(self) -> float:
        """Resident set size of the tree: what a container's limit counts, and cheap to ask."""
        return self._memory("status", "VmRSS:")

    def _memory(self, file: str, name: str) -> float:
        kb = 0
        for pid in self._tree():
            with contextlib.suppress(OSError):
                for line in (_PROC / str(pid) / file).read_text().splitlines():
                    if line.startswith(name):
                        kb += int(line.split()[1])
        return kb / 1024

    def open_files(self) -> int:
        count = 0
        for pid in self._tree():
            with contextlib.suppress(OSError):
                count += len(os.listdir(_PROC / str(pid) / "fd"))
        return count

    def stop(self) -> None:
        """Ends all of them: a program that ends in order may leave children behind."""
        self._signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(2)
        self._signal(signal.SIGKILL)
        self._popen.wait()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._popen.pid, number)


def _stat(proc: Path) -> list[str]:
    """The fields of /proc/PID/stat after the name: state, parent, …"""
    return (proc / "stat").read_text().rpartition(")")[2].split()


@contextmanager
def running(
    argv: Sequence[str],
    core: int,
    port: int,
    log: Path,
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    out: Path | None = None,
) -> Iterator[Process]:
    process = Process(argv, core, log, cwd=cwd, env=env, out=out)
    try:
        process.wait_port(port)
        yield process
    finally:
        process.stop()
