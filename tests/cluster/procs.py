"""Ends processes surely and only ours: found by the file they execute, signalled through a pidfd.

A pid alone is no identity, it may be another's by the time of the signal. A pidfd is, and the executed file below a
cluster's own folder says whose process it is.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from pathlib import Path


def running(executable: Path) -> list[int]:
    """Pids of this machine's processes that execute this very file."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if os.readlink(entry / "exe").removesuffix(" (deleted)") == str(executable):
                    found.append(int(entry.name))
    return sorted(found)


def end(executable: Path, seconds: float = 20.0) -> None:
    """Kill every process that executes this file and wait until it is gone.

    Raises TimeoutError when one is still there after ``seconds`` (one that hangs in the kernel).
    """
    deadline = time.monotonic() + seconds
    while pids := running(executable):
        for pid in pids:
            _kill(pid, executable, deadline)
        if time.monotonic() > deadline:
            raise TimeoutError(f"processes {pids} of {executable} do not end")


def _kill(pid: int, executable: Path, deadline: float) -> None:
    with contextlib.suppress(ProcessLookupError, FileNotFoundError):
        handle = os.pidfd_open(pid)
        try:
            # Asked again, now that the pidfd pins the process.
            if os.readlink(f"/proc/{pid}/exe").removesuffix(" (deleted)") != str(executable):
                return
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            poll = select.poll()
            poll.register(handle, select.POLLIN)
            poll.poll(max(0, int((deadline - time.monotonic()) * 1000)))
        finally:
            os.close(handle)
