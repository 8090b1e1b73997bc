"""Objects of the API server read as what the routing table is made of. Pure.

Decided here: which endpoints of a slice count, what of a Secret is a value. Not here: when they are read
(`cluster.py`), our own two kinds (`domain/parsed.py`).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from typing import Any

from pointsman.api import meta
from pointsman.domain.table import PodEndpoint, SecretValue

PORT_NAME = "http"
SERVICE_LABEL = "kubernetes.io/service-name"
_TOKEN_TYPE = "kubernetes.io/service-account-token"  # noqa: S105  a type's name

Object = Mapping[str, Any]


def unmanaged(body: Object) -> dict[str, Any]:
    """The object without the managed fields, which may be the larger part of it."""
    return {**body, "metadata": {k: v for k, v in body["metadata"].items() if k != "managedFields"}}


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
