"""`pointsman gateway` as a process of its own, with free ports, ended by its process id."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.support.engine import until


class GatewayProcess:
    """A running gateway. `url` and `admin` are base URLs, `log` the lines of standard error, `out` of output."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.log: list[str] = []
        self.out: list[str] = []
        self.url = ""
        self.admin = ""
        self._readers = [
            asyncio.create_task(self._read(process.stderr, self.log)),
            asyncio.create_task(self._read(process.stdout, self.out)),
        ]

    @staticmethod
    async def _read(stream: asyncio.StreamReader | None, lines: list[str]) -> None:
        assert stream is not None
        while line := await stream.readline():
            lines.append(line.decode().rstrip("\n"))

    async def listening(self) -> None:
        found = await until(self._addresses, 60, "the gateway's start line")
        self.url, self.admin = found.groups()

    def _addresses(self) -> re.Match[str] | None:
        if self._process.returncode is not None:
            raise AssertionError("the gateway ended: " + "\n".join(self.log))
        return next((m for line in self.log if (m := re.search(r"serving on (\S+) \(admin on (\S+)\)", line))), None)

    @property
    def pid(self) -> int:
        return self._process.pid

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def ended(self, seconds: float = 60.0) -> int:
        """The exit code."""
        code = await asyncio.wait_for(self._process.wait(), seconds)
        await asyncio.gather(*self._readers)
        return code

    def messages(self, level: str) -> list[dict[str, Any]]:
        """Log lines of that level."""
        lines = [json.loads(line) for line in self.log if line.startswith("{")]
        return [line for line in lines if line["level"] == level]

    async def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)


@asynccontextmanager
async def gateway_process(manifests: Path | None, *arguments: str, wait: bool = True, **env: str) -> AsyncIterator[Any]:
    """Runs the gateway on `manifests`, or on a cluster; `wait=False` does not wait until it listens."""
    source = ["--manifests", str(manifests)] if manifests is not None else []
    command = ["gateway", *source, "--port", "0", "--admin-port", "0", *arguments]
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("POINTSMAN_", "POD_"))}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pointsman", *command,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**clean, **env},
    )  # fmt: skip
    gateway = GatewayProcess(process)
    try:
        if wait:
            await gateway.listening()
        yield gateway
    finally:
        with contextlib.suppress(ProcessLookupError):
            await gateway.kill()
