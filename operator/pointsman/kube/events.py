"""Events of Kubernetes: one for each turn of a condition, with the condition's own reason. Never more.

Decided here: the Event's shape. An Event that cannot be written is forgotten: the condition says the same.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime

from pointsman.kube.client import ApplyClient
from pointsman.kube.connect import ApiError
from pointsman.kube.resources import EVENTS, Obj, name_of, uid_of

log = logging.getLogger(__name__)

MESSAGE_LIMIT = 1024
"""Bytes that the API server accepts."""


@dataclass(frozen=True)
class Notice:
    """What happened to an object. `warning` when somebody should look."""

    reason: str
    message: str
    warning: bool


async def post(client: ApplyClient, about: Obj, notice: Notice, instance: str) -> None:
    """`about`: the object, at least its type, name, namespace and UID. Never raises `ApiError`."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    metadata = about["metadata"]
    event: Obj = {
        "apiVersion": EVENTS.api_version,
        "kind": EVENTS.kind,
        "metadata": {"generateName": f"{name_of(about)}.", "namespace": metadata["namespace"]},
        "involvedObject": {
            "apiVersion": about["apiVersion"],
            "kind": about["kind"],
            "namespace": metadata["namespace"],
            "name": name_of(about),
            "uid": uid_of(about),
        },
        "reason": notice.reason,
        "message": notice.message.encode()[:MESSAGE_LIMIT].decode(errors="ignore"),
        "type": "Warning" if notice.warning else "Normal",
        "source": {"component": "pointsman"},
        "reportingComponent": "pointsman.dev/operator",
        "reportingInstance": instance,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }
    try:
        await client.create(event)
    except ApiError as error:
        log.info("an Event was not written: %s", error.message)
