"""Listening to gateways and pulls: one stream of server-sent events for each pod of ours that runs.

Decided here: whom to listen to, with which token, how a broken stream comes back, and for which resources a report is
news. Invariant: a worker that lies lies about itself: a pod's report is kept under that pod's UID, a gateway cannot
speak as a pull, lines have a limit, redirects are not followed. What several reports amount to: `domain/folding.py`.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import random
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass

import aiohttp
import msgspec

from pointsman.api import meta
from pointsman.controllers import children, gateway_children, own_pulls, pull_job
from pointsman.controllers.context import Context
from pointsman.controllers.keys import Key, everything_in, keys_of
from pointsman.controllers.scaling import Scaling
from pointsman.domain.folding import rounded
from pointsman.domain.report import (
    HEARTBEAT_SECONDS,
    REPORT_PATH,
    SILENT_AFTER_SECONDS,
    BackendHealth,
    GatewayReport,
    PullReport,
    Report,
    decode,
)
from pointsman.kube.resources import PODS, SECRETS, Obj, is_deleting, labels_of, uid_of

log = logging.getLogger(__name__)

LINE_LIMIT = 8 << 20
"""Bytes of one report; a gateway with thousands of endpoints stays far below."""
CONNECT_SECONDS = 3.0
SILENCE_SECONDS = 3 * HEARTBEAT_SECONDS
FIRST_WAIT, LONGEST_WAIT = 0.3, 10.0
"""Seconds before a broken stream is opened again: doubling."""
FIGURES_SECONDS = 5.0
PROGRESS_SECONDS = 1.0
PORTS = {
    gateway_children.COMPONENT: gateway_children.ADMIN_PORT,
    pull_job.PULL_COMPONENT: pull_job.REPORT_PORT,
    children.ENGINE_COMPONENT: pull_job.REPORT_PORT,  # while it pulls its own models
}

Add = Callable[[Key, float], None]


@dataclass
class _Listener:
    address: str
    task: asyncio.Task[None]
    connected: bool = False


class Reports:
    """Keeps one stream for each worker pod; feeds the report book and the queue."""

    def __init__(self, context: Context, add: Add, scaling: Scaling) -> None:
        self._context = context
        self._scaling = scaling
        self._add = add
        self._listeners: dict[str, _Listener] = {}
        self._session: aiohttp.ClientSession | None = None

    @property
    def connected(self) -> int:
        """How many streams are open."""
        return sum(1 for listener in self._listeners.values() if listener.connected)

    def pod_changed(self, pod: Obj) -> None:
        """Call for every change of a pod that the operator watches."""
        component = labels_of(pod).get(meta.COMPONENT_LABEL, "")
        if component not in PORTS:
            return
        uid, address = uid_of(pod), _address(pod)
        known = self._listeners.get(uid)
        live = self._context.cache.get(PODS, pod["metadata"]["namespace"], pod["metadata"]["name"])
        if live is None or uid_of(live) != uid or address is None:
            if known is not None:
                known.task.cancel()
                del self._listeners[uid]
            if live is None or uid_of(live) != uid or is_deleting(live):
                self._context.reports.forget(uid)
            return
        if known is not None and known.address == address:
            return
        if known is not None:
            known.task.cancel()
        task = asyncio.create_task(self._listen(pod, address, PORTS[component]), name=f"report of {address}")
        self._listeners[uid] = _Listener(address, task)

    async def close(self) -> None:
        for listener in self._listeners.values():
            listener.task.cancel()
        self._listeners.clear()
        if self._session is not None:
            await self._session.close()

    async def _listen(self, pod: Obj, address: str, port: int) -> None:
        host = f"[{address}]" if ":" in address else address
        url = f"http://{host}:{port}{REPORT_PATH}"
        wait = FIRST_WAIT
        while True:
            token = self._token(pod["metadata"]["namespace"])
            if token:
                try:
                    async for report in self._stream(url, token, pod):
                        wait = FIRST_WAIT
                        self._received(pod, report)
                except (aiohttp.ClientError, TimeoutError, OSError, ValueError, msgspec.MsgspecError) as error:
                    log.debug("no report from %s: %s", url, str(error) or type(error).__name__)
                self._mark(pod, connected=False)
            await asyncio.sleep(wait * (0.75 + 0.5 * random.random()))
            wait = min(LONGEST_WAIT, wait * 2)

    async def _stream(self, url: str, token: str, pod: Obj) -> AsyncIterator[Report]:
        if self._session is None:
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        limits = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS)
        headers = {"Authorization": f"Bearer {token}", "Accept": "text/event-stream"}
        async with self._session.get(url, headers=headers, timeout=limits, allow_redirects=False) as response:
            if response.status != 200:
                raise ValueError(f"answered {response.status}")
            self._mark(pod, connected=True)
            rest = bytearray()
            async for chunk in response.content.iter_any():
                rest += chunk
                while (end := rest.find(b"\n")) >= 0:
                    line = bytes(rest[:end]).rstrip(b"\r")
                    del rest[: end + 1]
                    if line.startswith(b"data:"):
                        yield decode(line[5:].strip())
                if len(rest) > LINE_LIMIT:
                    raise ValueError("a line of the report is too long")

    def _received(self, pod: Obj, report: Report) -> None:
        component = labels_of(pod).get(meta.COMPONENT_LABEL)
        wanted = GatewayReport if component == gateway_children.COMPONENT else PullReport
        if not isinstance(report, wanted):
            raise ValueError("the report is of another kind than its pod")
        namespace = pod["metadata"]["namespace"]
        before = self._context.reports.last(uid_of(pod))
        self._context.reports.keep(uid_of(pod), report)
        if isinstance(report, GatewayReport):
            for name in self._scaling.heard(namespace, report):
                self._add(Key("LLMBackend", namespace, name), 0.0)
            for key, after in news(namespace, before if isinstance(before, GatewayReport) else None, report):
                self._add(key, after)
            return
        same = isinstance(before, PullReport) and (before.progress.state, before.progress.reason) == (
            report.progress.state, report.progress.reason,
        )  # fmt: skip
        for key in keys_of(PODS, pod, self._context.cache):
            self._add(key, PROGRESS_SECONDS if same else 0.0)

    def _mark(self, pod: Obj, *, connected: bool) -> None:
        listener = self._listeners.get(uid_of(pod))
        if listener is None or listener.connected == connected:
            return
        listener.connected = connected
        if not connected and labels_of(pod).get(meta.COMPONENT_LABEL) == gateway_children.COMPONENT:
            for key in everything_in(pod["metadata"]["namespace"], self._context.cache):
                self._add(key, SILENT_AFTER_SECONDS + 1.0)

    def _token(self, namespace: str) -> str:
        secret = self._context.cache.get(SECRETS, namespace, meta.REPORT_SECRET)
        try:
            return base64.b64decode(((secret or {}).get("data") or {}).get(meta.REPORT_SECRET_KEY) or "").decode()
        except (binascii.Error, UnicodeDecodeError):
            return ""


def news(namespace: str, before: GatewayReport | None, now: GatewayReport) -> Iterator[tuple[Key, float]]:
    """For whom a gateway's report is news, and after how many seconds."""
    old_backends = {b.name: b for b in before.backends} if before else {}
    old_routes = {r.name: r for r in before.routes} if before else {}
    for backend in now.backends:
        old = old_backends.pop(backend.name, None)
        if old is None or _gist(old) != _gist(backend):
            yield Key("LLMBackend", namespace, backend.name), 0.0
        elif rounded(old.latency_ms) != rounded(backend.latency_ms):
            yield Key("LLMBackend", namespace, backend.name), FIGURES_SECONDS
    for route in now.routes:
        known = old_routes.pop(route.name, None)
        if known != route:
            yield Key("ModelRoute", namespace, route.name), 0.0
    for name in old_backends:
        yield Key("LLMBackend", namespace, name), 0.0
    for name in old_routes:
        yield Key("ModelRoute", namespace, name), 0.0


def _gist(health: BackendHealth) -> tuple[int, str, str, str]:
    return health.generation, health.state, health.reason, health.message


def _address(pod: Obj) -> str | None:
    """Where a pod reports, once it does."""
    status = pod.get("status") or {}
    if labels_of(pod).get(meta.COMPONENT_LABEL) == children.ENGINE_COMPONENT:
        reports = own_pulls.under_way(pod)
    else:
        reports = status.get("phase") == "Running"
    return str(status["podIP"]) if reports and status.get("podIP") else None
