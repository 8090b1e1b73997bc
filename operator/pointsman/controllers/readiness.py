"""What an object's own conditions say. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pointsman.kube.resources import Obj, is_deleting


def is_ready(pod: Obj) -> bool:
    return (condition(pod, "Ready") or {}).get("status") == "True" and not is_deleting(pod)


def condition(obj: Obj, kind: str) -> Mapping[str, Any] | None:
    return next((c for c in (obj.get("status") or {}).get("conditions") or () if c.get("type") == kind), None)
