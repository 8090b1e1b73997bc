"""The kubelet of a node on paper: whatever pod it is given runs at once, and a pull has pulled its model."""

from __future__ import annotations

import asyncio
from types import TracebackType

from tests.operator import paper
from tests.operator.hands import PULLED

from pointsman.api import meta
from pointsman.kube.connect import ApiError, Connection, NotFound
from pointsman.kube.reflector import Items, Reflector, Selection
from pointsman.kube.resources import Obj, labels_of, name_of, uid_of

ROOM = {"cpu": "10k", "memory": "80Ti", "pods": "10k"}
"""What its node has."""
_AT_ONCE = 8
_GATEWAY = "gateway"
_PULL = "pull"


class Kubelet:
    """For all pods of a namespace, but those of its gateway, which are processes here."""

    def __init__(self, api: Connection, namespace: str, address: str) -> None:
        """`address`: of every pod."""
        self._api = api
        self._address = address
        self._seen: set[str] = set()
        self._todo: asyncio.Queue[Obj] = asyncio.Queue()
        self._reflector = Reflector(api, Selection("", "v1", "pods", namespace), self._changed)
        self._tasks: list[asyncio.Task[None]] = []
        self.gateways: dict[str, Obj] = {}
        """The pods that a gateway may stand for, by name, once they have a node."""

    async def __aenter__(self) -> Kubelet:
        self._tasks = [asyncio.create_task(self._reflector.run()), *(self._worker() for _ in range(_AT_ONCE))]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _changed(self, pods: Items) -> None:
        for pod in pods.values():
            ending = bool(pod["metadata"].get("deletionTimestamp"))
            step = f"{uid_of(pod)}{ending}"
            if step in self._seen or not pod["spec"].get("nodeName"):
                continue
            self._seen.add(step)
            if not ending and labels_of(pod).get(meta.COMPONENT_LABEL) == _GATEWAY:
                self.gateways[name_of(pod)] = pod
            else:
                self._todo.put_nowait(pod)

    def _worker(self) -> asyncio.Task[None]:
        return asyncio.create_task(self._work())

    async def _work(self) -> None:
        while True:
            pod = await self._todo.get()
            try:
                await self._step(pod)
            except NotFound:
                continue
            except ApiError:
                self._todo.put_nowait(pod)
                await asyncio.sleep(0.1)

    async def _step(self, pod: Obj) -> None:
        if pod["metadata"].get("deletionTimestamp"):
            await paper.gone(self._api, pod)
        elif labels_of(pod).get(meta.COMPONENT_LABEL) == _PULL:
            await paper.end(self._api, pod, 0, PULLED)
        else:
            await paper.run(self._api, pod, self._address)
