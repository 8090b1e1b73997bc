"""What the operator does to objects: one small port, and its implementation on the API server.

Decided here: how a write is made (server-side apply under one field manager, preconditions) and that every call is
counted. Not here: whether to write (`controllers/`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from pointsman.api import meta
from pointsman.kube.connect import APPLY, MERGE_PATCH, Conflict, Connection, NotFound
from pointsman.kube.resources import Obj, Resource, resource_of

WRITES = frozenset({"apply", "create", "replace", "patch", "delete", "apply_status"})


class ApplyClient(Protocol):
    """All that reconcilers may ask of the API server. Every method raises `ApiError`."""

    async def apply(self, manifest: Obj, *, uid: str | None = None) -> Obj:
        """Makes the object so. With `uid`, exactly that object is changed, whoever else set a field; without, the
        object is expected to be new, and a field that somebody else set is a `Conflict`."""
        ...

    async def try_apply(self, manifest: Obj, *, uid: str | None = None) -> Obj:
        """What `apply` would make of it; nothing is changed."""
        ...

    async def get(self, resource: Resource, namespace: str, name: str) -> Obj | None: ...

    async def list(
        self, resource: Resource, namespace: str | None, *, labels: str = "", fields: str = ""
    ) -> tuple[list[Obj], str]:
        """The objects and the list's resource version; `namespace` None for all."""
        ...

    async def delete(self, resource: Resource, namespace: str, name: str, *, uid: str) -> bool:
        """Deletes that very object and, in the background, what it owns. False when it is gone already."""
        ...

    async def apply_status(self, manifest: Obj) -> Obj: ...

    async def patch(self, resource: Resource, namespace: str, name: str, body: Mapping[str, Any]) -> Obj:
        """A merge patch; put `metadata.resourceVersion` in the body to change only what was seen."""
        ...

    async def create(self, manifest: Obj) -> Obj: ...

    async def replace(self, manifest: Obj) -> Obj: ...


class Client:
    """`ApplyClient` on a real API server."""

    def __init__(self, connection: Connection, on_call: Callable[[str], None] | None = None) -> None:
        self._connection = connection
        self._on_call = on_call
        self.calls: Counter[str] = Counter()
        """Calls so far, by method name."""

    @property
    def writes(self) -> int:
        return sum(n for verb, n in self.calls.items() if verb in WRITES)

    def _count(self, verb: str) -> None:
        self.calls[verb] += 1
        if self._on_call is not None:
            self._on_call(verb)

    async def apply(self, manifest: Obj, *, uid: str | None = None) -> Obj:
        self._count("apply")
        return await self._apply(manifest, uid, {})

    async def try_apply(self, manifest: Obj, *, uid: str | None = None) -> Obj:
        self._count("try_apply")
        return await self._apply(manifest, uid, {"dryRun": "All"})

    async def _apply(self, manifest: Obj, uid: str | None, further: Mapping[str, str]) -> Obj:
        body = manifest
        params = {"fieldManager": meta.FIELD_MANAGER, **further}
        if uid is not None:
            params["force"] = "true"
            body = {**manifest, "metadata": {**manifest["metadata"], "uid": uid}}
        answer = await self._connection.request("PATCH", _path(manifest), params=params, body=body, content_type=APPLY)
        return _object(answer)

    async def get(self, resource: Resource, namespace: str, name: str) -> Obj | None:
        self._count("get")
        try:
            return _object(await self._connection.request("GET", resource.path(namespace, name)))
        except NotFound:
            return None

    async def list(
        self, resource: Resource, namespace: str | None, *, labels: str = "", fields: str = ""
    ) -> tuple[list[Obj], str]:
        self._count("list")
        params = {k: v for k, v in (("labelSelector", labels), ("fieldSelector", fields)) if v}
        params["limit"] = "500"
        items: list[Obj] = []
        while True:
            answer = await self._connection.request("GET", resource.path(namespace), params=params)
            for item in answer.get("items") or ():
                # Items of a list carry no type of their own.
                items.append({"apiVersion": resource.api_version, "kind": resource.kind, **item})
            following = answer["metadata"].get("continue")
            if not following:
                return items, answer["metadata"].get("resourceVersion", "")
            params["continue"] = following

    async def delete(self, resource: Resource, namespace: str, name: str, *, uid: str) -> bool:
        self._count("delete")
        body = {"propagationPolicy": "Background", "preconditions": {"uid": uid}}
        try:
            await self._connection.request("DELETE", resource.path(namespace, name), body=body)
        except NotFound:
            return False
        except Conflict:
            return False  # another object has the name by now: ours is gone
        return True

    async def apply_status(self, manifest: Obj) -> Obj:
        self._count("apply_status")
        params = {"fieldManager": meta.FIELD_MANAGER, "force": "true"}
        answer = await self._connection.request(
            "PATCH", _path(manifest, "status"), params=params, body=manifest, content_type=APPLY
        )
        return _object(answer)

    async def patch(self, resource: Resource, namespace: str, name: str, body: Mapping[str, Any]) -> Obj:
        self._count("patch")
        answer = await self._connection.request(
            "PATCH",
            resource.path(namespace, name),
            params={"fieldManager": meta.FIELD_MANAGER},
            body=body,
            content_type=MERGE_PATCH,
        )
        return _object(answer)

    async def create(self, manifest: Obj) -> Obj:
        self._count("create")
        path = resource_of(manifest).path(manifest["metadata"]["namespace"])
        params = {"fieldManager": meta.FIELD_MANAGER}
        return _object(await self._connection.request("POST", path, params=params, body=manifest))

    async def replace(self, manifest: Obj) -> Obj:
        self._count("replace")
        params = {"fieldManager": meta.FIELD_MANAGER}
        return _object(await self._connection.request("PUT", _path(manifest), params=params, body=manifest))


def _path(manifest: Obj, sub: str = "") -> str:
    metadata = manifest["metadata"]
    return resource_of(manifest).path(metadata["namespace"], metadata["name"], sub)


def _object(answer: Any) -> Obj:
    assert isinstance(answer, dict), answer
    return answer
