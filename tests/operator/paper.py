"""A node on paper: the scheduler gives it pods, no kubelet runs them, tests write what a kubelet would.

The API server, the scheduler and the controllers that go by these words are real.
"""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime
from typing import Any

from tests.cluster.plan import NODE

from pointsman.kube.client import Client
from pointsman.kube.connect import MERGE_PATCH, Connection, NotFound, connect
from pointsman.kube.resources import PODS, Obj, name_of

HEARTBEAT_SECONDS = 10.0


class PaperNode:
    """Keeps a node alive from a thread of its own. What is changed by `change` is so at once, and stays."""

    def __init__(
        self,
        kubeconfig: str,
        name: str = NODE,
        *,
        extended: dict[str, str] | None = None,
        labels: dict[str, str] | None = None,
        taints: list[dict[str, str]] | None = None,
    ) -> None:
        """`extended`: resources that a device plugin would report, such as nvidia.com/gpu."""
        self._kubeconfig = kubeconfig
        self.name = name
        self._extended = extended or {}
        self._labels = {"kubernetes.io/hostname": name, **(labels or {})}
        self._taints = taints
        self._stop = threading.Event()
        self._up = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._beat()), daemon=True)

    def __enter__(self) -> PaperNode:
        self._thread.start()
        assert self._up.wait(20), "no paper node"
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)

    async def change(
        self,
        api: Connection,
        *,
        extended: dict[str, str] | None = None,
        labels: dict[str, str] | None = None,
        taints: list[dict[str, str]] | None = None,
    ) -> None:
        """What is given is so from now on: the resources, further labels, the taints."""
        if extended is not None:
            self._extended = extended
        self._labels |= labels or {}
        if taints is not None:
            self._taints = taints or None
        await self._write(api)

    async def _beat(self) -> None:
        async with await connect(self._kubeconfig) as api:
            node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": self.name, "labels": self._labels}}
            try:
                await api.request("GET", f"/api/v1/nodes/{self.name}")
            except NotFound:
                await api.request("POST", "/api/v1/nodes", body=node)
            while not self._stop.is_set():
                await self._write(api)
                self._up.set()
                await asyncio.to_thread(self._stop.wait, HEARTBEAT_SECONDS)
            await api.request("DELETE", f"/api/v1/nodes/{self.name}")

    async def _write(self, api: Connection) -> None:
        now = _now()
        ready = {"type": "Ready", "status": "True", "reason": "Paper", "message": "",
                 "lastHeartbeatTime": now, "lastTransitionTime": now}  # fmt: skip
        room = {"cpu": "64", "memory": "256Gi", "pods": "500", "ephemeral-storage": "100Gi", **self._extended}
        status = {"capacity": room, "allocatable": room, "conditions": [ready]}
        path = f"/api/v1/nodes/{self.name}"
        await api.request("PATCH", f"{path}/status", body={"status": status}, content_type=MERGE_PATCH)
        body = {"metadata": {"labels": self._labels}, "spec": {"taints": self._taints}}
        await api.request("PATCH", path, body=body, content_type=MERGE_PATCH)


async def pods_of(api: Connection, namespace: str, labels: str, *, ending: bool = False) -> list[Obj]:
    """`ending`: those too that are being deleted."""
    found, _ = await Client(api).list(PODS, namespace, labels=labels)
    return [p for p in found if ending or not p["metadata"].get("deletionTimestamp")]


async def gone(api: Connection, pod: Obj) -> None:
    """The pod has ended, and its node says so."""
    path = PODS.path(pod["metadata"]["namespace"], name_of(pod))
    await api.request("DELETE", path, body={"gracePeriodSeconds": 0})


async def report(api: Connection, pod: Obj, status: dict[str, Any]) -> None:
    """Writes a pod's status as its kubelet would."""
    path = PODS.path(pod["metadata"]["namespace"], name_of(pod), "status")
    await api.request("PATCH", path, body={"status": status}, content_type=MERGE_PATCH)


async def run(api: Connection, pod: Obj, address: str = "127.0.0.1") -> None:
    """The pod runs and is ready."""
    await report(api, pod, {
        "phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
        "conditions": [{"type": t, "status": "True", "lastTransitionTime": _now()}
                       for t in ("PodScheduled", "Initialized", "ContainersReady", "Ready")],
        "containerStatuses": [_container(pod, {"running": {"startedAt": _now()}}, ready=True)],
    })  # fmt: skip


async def end(api: Connection, pod: Obj, code: int, message: str) -> None:
    """The pod's container ended with this code and termination message."""
    state = {"exitCode": code, "message": message, "finishedAt": _now(), "startedAt": _now(),
             "reason": "Completed" if code == 0 else "Error"}  # fmt: skip
    await report(api, pod, {
        "phase": "Failed" if code else "Succeeded",
        "containerStatuses": [_container(pod, {"terminated": state}, ready=False)],
    })  # fmt: skip


async def waits(api: Connection, pod: Obj, reason: str, message: str, last: dict[str, Any] | None = None) -> None:
    """The pod's container waits, such as with ImagePullBackOff."""
    container = _container(pod, {"waiting": {"reason": reason, "message": message}}, ready=False)
    if last:
        container["lastState"] = {"terminated": last}
        container["restartCount"] = 3
    await report(api, pod, {"phase": "Pending", "containerStatuses": [container]})


def _container(pod: Obj, state: dict[str, Any], *, ready: bool) -> dict[str, Any]:
    spec = pod["spec"]["containers"][0]
    return {"name": spec["name"], "image": spec["image"], "imageID": "", "ready": ready, "started": ready,
            "restartCount": 0, "state": state}  # fmt: skip


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
