"""The operator as a process of its own, as it is in a cluster: its own rights, its own lease, watches and a queue."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType

import aiohttp
import yaml
from tests.operator.bench import SETTINGS
from tests.support.ports import free_port

from pointsman.controllers.settings import Settings

START_SECONDS = 30.0


class OperatorProcess:
    """Ended by its own process id when left."""

    def __init__(
        self,
        kubeconfig: Path,
        folder: Path,
        *namespaces: str,
        settings: Settings = SETTINGS,
        log_level: str = "debug",
        pod_uid: str = "",
    ) -> None:
        self._port = free_port()
        config = folder / "settings.yaml"
        config.write_text(yaml.safe_dump(settings.model_dump(mode="json", by_alias=True, exclude_defaults=True)))
        self.log = folder / f"operator-{self._port}.log"
        arguments = ["--kubeconfig", str(kubeconfig), "--config", str(config), "--health-host", "127.0.0.1",
                     "--health-port", str(self._port), "--log-level", log_level]  # fmt: skip
        for namespace in namespaces:
            arguments += ["--namespace", namespace]
        with self.log.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pointsman", "operator", *arguments], stdout=output, stderr=output,
                env={**os.environ, "KUBECONFIG": "/nonexistent", "POD_UID": pod_uid},
            )  # fmt: skip

    async def __aenter__(self) -> OperatorProcess:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            await asyncio.to_thread(self.process.wait, 60)
        finally:
            if self.process.poll() is None:
                self.process.kill()
        if kind is not None:
            print(self.log.read_text()[-8000:])
        bad = [line for line in self.log.read_text().splitlines() if '"level": "error"' in line or "Traceback" in line]
        assert kind is not None or not bad, bad[:3]

    async def leads(self) -> bool:
        """True once it holds the lease and has read the cluster."""
        return (await self.metrics()).get("pointsman_operator_leader") == 1.0 and await self._get("/readyz") is not None

    async def metrics(self) -> dict[str, float]:
        """Figures by name with labels; empty while it starts."""
        out = {}
        for line in (await self._get("/metrics") or "").splitlines():
            if not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                out[name] = float(value)
        return out

    async def calls(self) -> dict[str, float]:
        """Calls of the API server so far, by verb."""
        prefix = 'pointsman_operator_api_calls_total{verb="'
        return {k.removeprefix(prefix)[:-2]: v for k, v in (await self.metrics()).items() if k.startswith(prefix)}

    async def _get(self, path: str) -> str | None:
        assert self.process.poll() is None, self.log.read_text()[-4000:]
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"http://127.0.0.1:{self._port}{path}") as response,
            ):
                return await response.text() if response.status == 200 else None
        except aiohttp.ClientError:
            return None
