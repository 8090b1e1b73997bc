"""Objects of the API server read as what the routing table is made of. Pure but for a log line.

Decided here: which endpoints of a slice count, what of a Secret is a value, what is left of an object that cannot be
read (nothing: it is skipped and said). Not here: when they are read (`cluster.py`).
"""

from __future__ import annotations

import base64
import binascii
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from pointsman.api import meta
from pointsman.api.objects import sentence
from pointsman.domain.table import PodEndpoint, SecretValue

_log = logging.getLogger(__name__)

PORT_NAME = "http"
SERVICE_LABEL = "kubernetes.io/service-name"
_TOKEN_TYPE = "kubernetes.io/service-account-token"  # noqa: S105  a type's name

Object = Mapping[str, Any]
T = TypeVar("T")


class Parsed(Generic[T]):
    """Objects of one kind, each parsed once while what routing sees of it stays: a written status does not count."""

    def __init__(self, parse: Callable[[Object], T], kind: str) -> None:
        self._parse = parse
        self._kind = kind
        self._seen: dict[str, tuple[Any, T | None]] = {}

    def of(self, items: Mapping[str, Object]) -> list[T]:
        """What `items` (by name) say; those that cannot be read are left out and logged once."""
        seen: dict[str, tuple[Any, T | None]] = {}
        for name, body in items.items():
            mark = _mark(body)
            known = self._seen.get(name)
            seen[name] = known if known is not None and known[0] == mark else (mark, self._read(name, body))
        self._seen = seen
        return [value for _, value in seen.values() if value is not None]

    def _read(self, name: str, body: Object) -> T | None:
        try:
            return self._parse(trimmed(body))
        except ValidationError as error:
            _log.error("%s %s is skipped, it cannot be read: %s", self._kind, name, sentence(error))
            return None


def _mark(body: Object) -> tuple[Any, ...]:
    """Differs whenever the object may mean something else for routing."""
    m = body["metadata"]
    models = (body.get("status") or {}).get("models") or ()
    return m.get("uid"), m.get("generation"), tuple((x.get("name"), x.get("digest")) for x in models)


def trimmed(body: Object) -> dict[str, Any]:
    """The parts of an LLMBackend or ModelRoute that routing needs: no environment, no managed fields, and of the status
    the digests only."""
    m = body["metadata"]
    kept = ("name", "namespace", "uid", "generation", "creationTimestamp")
    models = (body.get("status") or {}).get("models") or ()
    return {
        "metadata": {k: m[k] for k in kept if k in m},
        "spec": {k: v for k, v in (body.get("spec") or {}).items() if k != "env"},
        "status": {"models": [{"name": x["name"], "digest": x["digest"]} for x in models if x.get("digest")]},
    }


def endpoints_of(slices: Iterable[Object]) -> dict[str, tuple[PodEndpoint, ...]]:
    """The pods of each backend that may be sent to: ready, not terminating, of our Service, with its port `http`.

    A slice belongs to a backend when it has the backend's label and the name of the backend's Service; the API server
    copies both from the Service. A pod that stands in two slices (a moment of a move, two address families) counts
    once.
    """
    found: dict[str, dict[str, PodEndpoint]] = {}
    for body in slices:
        labels = body["metadata"].get("labels") or {}
        backend = labels.get(meta.BACKEND_LABEL, "")
        if not backend or labels.get(SERVICE_LABEL) != meta.child_name(backend):
            continue
        port = next((p.get("port") for p in body.get("ports") or () if p.get("name") == PORT_NAME), None)
        if not port or body.get("addressType") not in ("IPv4", "IPv6"):
            continue
        for endpoint in body.get("endpoints") or ():
            conditions = endpoint.get("conditions") or {}
            addresses = endpoint.get("addresses") or ()
            if conditions.get("ready") is False or conditions.get("terminating") or not addresses:
                continue
            uid = (endpoint.get("targetRef") or {}).get("uid") or addresses[0]
            found.setdefault(backend, {}).setdefault(uid, PodEndpoint(uid, addresses[0], int(port)))
    return {name: tuple(sorted(pods.values(), key=lambda p: p.uid)) for name, pods in found.items()}


def gateways_of(slices: Iterable[Object]) -> frozenset[str]:
    """The names of the pods behind the gateways' own Service that take requests: ready, not terminating."""
    found = set()
    for body in slices:
        for endpoint in body.get("endpoints") or ():
            conditions = endpoint.get("conditions") or {}
            name = (endpoint.get("targetRef") or {}).get("name")
            if name and conditions.get("ready") is not False and not conditions.get("terminating"):
                found.add(name)
    return frozenset(found)


def config_map_value(body: Object, before: SecretValue | None) -> SecretValue:
    """A ConfigMap's text values. The version changes only when they do."""
    data = {str(k): str(v) for k, v in (body.get("data") or {}).items()}
    if before is not None and before.data == data:
        return before
    return SecretValue(str(body["metadata"].get("resourceVersion", "")), data)


def secret_value(body: Object, before: SecretValue | None) -> SecretValue:
    """A Secret's text values. The version changes only when they do. A service account's token is nobody's API key:
    whoever may write an LLMBackend could send it anywhere, so such a Secret counts as empty."""
    data: dict[str, str] = {}
    if body.get("type") != _TOKEN_TYPE:
        for key, value in (body.get("data") or {}).items():
            try:
                data[key] = base64.b64decode(value, validate=True).decode()
            except (binascii.Error, UnicodeDecodeError):
                continue
    if before is not None and before.data == data:
        return before
    return SecretValue(str(body["metadata"].get("resourceVersion", "")), data)
