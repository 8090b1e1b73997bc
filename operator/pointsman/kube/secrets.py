"""What the operator knows of users' Secrets and ConfigMaps: whether they exist and which keys hold a usable value.

Never a value, but for certificates, which are public.

Decided here: one metadata-only watch for each namespace in which one is referenced (a Secret can be a megabyte, a
cluster can have thousands), and a GET of a referenced one when its version changed, of which only the shape is kept.
Of a Secret that only pulls are given not even that is read: `identity` says which object and version it is.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from pointsman.domain.trust import certificates
from pointsman.kube.connect import METADATA, METADATA_LIST, ApiError, Connection, Gone, NotFound
from pointsman.kube.resources import SECRETS, Resource

log = logging.getLogger(__name__)

SYNC_SECONDS = 5.0
BACKOFF_SECONDS = 5.0
USABLE, UNUSABLE, EMPTY = "set", "\x00", ""
"""What stands in place of a value: usable as a header, not usable, nothing."""
TOKEN_TYPE = "kubernetes.io/service-account-token"  # noqa: S105  a type's name


@dataclass(frozen=True)
class SecretShape:
    """A Secret or ConfigMap without what is secret."""

    version: str
    keys: Mapping[str, str]
    """Key → one of `USABLE`, `UNUSABLE`, `EMPTY`, or the certificates in the value."""


class _Seen(NamedTuple):
    """What the watch knows of one object."""

    uid: str
    version: str

    @classmethod
    def of(cls, metadata: Mapping[str, str]) -> _Seen:
        return cls(metadata["uid"], metadata["resourceVersion"])

    @property
    def identity(self) -> str:
        return f"{self.uid}/{self.version}"


@dataclass
class _Space:
    """One namespace that is watched."""

    objects: dict[str, _Seen] = field(default_factory=dict)
    synced: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class SecretWatch:
    """Answers for objects of one kind by name. `close()` ends its watches."""

    def __init__(
        self, connection: Connection, on_change: Callable[[str, str], None], resource: Resource = SECRETS
    ) -> None:
        """`on_change` gets the namespace and name of an object that was asked for and is another now."""
        self._connection = connection
        self._resource = resource
        self._on_change = on_change
        self._spaces: dict[str, _Space] = {}
        self._shapes: dict[tuple[str, str], SecretShape | None] = {}
        self._identified: set[tuple[str, str]] = set()

    async def shape(self, namespace: str, name: str) -> SecretShape | None:
        """None when it does not exist. Raises `ApiError`."""
        space = await self._synced(namespace)
        if space is None:
            return await self._read(namespace, name)
        seen = space.objects.get(name)
        known = self._shapes.get((namespace, name))
        if seen is None:
            self._shapes[namespace, name] = None
            return None
        if known is not None and known.version == seen.version:
            return known
        return await self._read(namespace, name)

    async def identity(self, namespace: str, name: str) -> str | None:
        """Which object it is and in which version, `<uid>/<resourceVersion>`; None when it does not exist. Its content
        is never read. Raises `ApiError`."""
        self._identified.add((namespace, name))
        space = await self._synced(namespace)
        if space is not None and (seen := space.objects.get(name)) is not None:
            return seen.identity
        try:  # the watch may be behind who has just made it
            found = await self._connection.request("GET", self._resource.path(namespace, name), accept=METADATA)
        except NotFound:
            return None
        return _Seen.of(found["metadata"]).identity

    async def _synced(self, namespace: str) -> _Space | None:
        """The namespace once its objects are known; None when that takes too long."""
        space = self._spaces.get(namespace)
        if space is None:
            space = self._spaces[namespace] = _Space()
            space.task = asyncio.create_task(
                self._follow(namespace, space), name=f"{self._resource.plural} of {namespace}"
            )
        try:
            async with asyncio.timeout(SYNC_SECONDS):
                await space.synced.wait()
        except TimeoutError:
            return None
        return space

    async def close(self) -> None:
        for space in self._spaces.values():
            if space.task is not None:
                space.task.cancel()
        self._spaces.clear()

    async def _read(self, namespace: str, name: str) -> SecretShape | None:
        try:
            found = await self._connection.request("GET", self._resource.path(namespace, name))
        except NotFound:
            shape = None
        else:
            # A service account's token must not leave the cluster: it counts as having no keys.
            data = {} if found.get("type") == TOKEN_TYPE else found.get("data") or {}
            kinds = {k: _kind(v, encoded=self._resource is SECRETS) for k, v in data.items()}
            shape = SecretShape(found["metadata"]["resourceVersion"], kinds)
        self._shapes[namespace, name] = shape
        return shape

    async def _follow(self, namespace: str, space: _Space) -> None:
        while True:
            try:
                version = await self._list(namespace, space)
                while True:
                    version = await self._watch(namespace, space, version)
            except Gone:
                continue
            except ApiError as error:
                what = self._resource.plural
                log.info("the %s of %s cannot be watched, trying again: %s", what, namespace, error.message)
            await asyncio.sleep(BACKOFF_SECONDS * (0.5 + random.random()))

    async def _list(self, namespace: str, space: _Space) -> str:
        params = {"limit": "500"}
        found: dict[str, _Seen] = {}
        while True:
            page = await self._connection.request(
                "GET", self._resource.path(namespace), params=params, accept=METADATA_LIST
            )
            found |= {i["metadata"]["name"]: _Seen.of(i["metadata"]) for i in page.get("items") or ()}
            following = page["metadata"].get("continue")
            if not following:
                break
            params["continue"] = following
        before, space.objects = space.objects, found
        for name in before.keys() | found.keys():
            if before.get(name) != found.get(name):
                self._tell(namespace, name)
        space.synced.set()
        return str(page["metadata"]["resourceVersion"])

    async def _watch(self, namespace: str, space: _Space, version: str) -> str:
        async for event in self._connection.watch(
            self._resource.path(namespace), resource_version=version, accept=METADATA
        ):
            metadata = event["object"]["metadata"]
            version = metadata["resourceVersion"]
            if event["type"] == "BOOKMARK":
                continue
            if event["type"] == "DELETED":
                space.objects.pop(metadata["name"], None)
            else:
                space.objects[metadata["name"]] = _Seen.of(metadata)
            self._tell(namespace, metadata["name"])
        return version

    def _tell(self, namespace: str, name: str) -> None:
        if (namespace, name) in self._shapes or (namespace, name) in self._identified:
            self._on_change(namespace, name)


def _kind(value: str, *, encoded: bool) -> str:
    try:
        value = base64.b64decode(value).decode().strip() if encoded else value.strip()
    except (UnicodeDecodeError, binascii.Error):
        return UNUSABLE
    if not value:
        return EMPTY
    if public := certificates(value):
        return public
    return USABLE if value.isascii() and value.isprintable() else UNUSABLE
