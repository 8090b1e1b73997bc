"""Does an object have to be applied? Pure.

Decided here: an object is as it should be when it carries the digest of what we last rendered *and* everything we
rendered is still so. The digest notices what we no longer render, the comparison what somebody else changed. What
others added (a label, a sidecar, defaults of the API server) is theirs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from pointsman.api import meta
from pointsman.api.scalars import amount

APPLIED_ANNOTATION = f"{meta.GROUP}/applied"
_KEYS = ("name", "containerPort", "uid", "key", "mountPath", "ip", "topologyKey")
"""By which field the items of a list are told apart, in this order."""


def stamped(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest with the digest of itself."""
    metadata = manifest["metadata"]
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    notes = {
        **(metadata.get("annotations") or {}),
        APPLIED_ANNOTATION: hashlib.sha256(text.encode()).hexdigest()[:16],
    }
    return {**manifest, "metadata": {**metadata, "annotations": notes}}


def drift(rendered: Any, live: Any, path: str = "") -> str | None:
    """The first place where `live` is not as rendered, such as `.spec.replicas`; None when all is."""
    if isinstance(rendered, Mapping):
        if not isinstance(live, Mapping):
            return None if not rendered and live is None else path
        for key, value in rendered.items():
            if (found := drift(value, live.get(key), f"{path}.{key}")) is not None:
                return found
        return None
    if isinstance(rendered, list | tuple):
        return _list_drift(rendered, live, path)
    if rendered == live or _empty(rendered, live) or _same_quantity(rendered, live):
        return None
    return path


def _list_drift(rendered: Sequence[Any], live: Any, path: str) -> str | None:
    if not isinstance(live, list):
        return None if not rendered and live is None else path
    key = _key(rendered)
    if key is None:
        if len(rendered) != len(live):
            return path
        pairs = list(zip(rendered, live, strict=True))
    else:
        by_key = {item.get(key): item for item in live if isinstance(item, Mapping)}
        pairs = [(item, by_key.get(item[key])) for item in rendered]
    for index, (want, have) in enumerate(pairs):
        if (found := drift(want, have, f"{path}[{index}]")) is not None:
            return found
    return None


def _key(items: Sequence[Any]) -> str | None:
    for key in _KEYS:
        values = [item.get(key) if isinstance(item, Mapping) else None for item in items]
        if values and None not in values and len(set(values)) == len(values):
            return key
    return None


def _empty(rendered: Any, live: Any) -> bool:
    """The API server leaves out what is empty."""
    return live is None and (rendered == "" or rendered is False or rendered == 0)


def _same_quantity(rendered: Any, live: Any) -> bool:
    """`1000m` comes back as `1`."""
    if not (isinstance(rendered, str | int) and isinstance(live, str | int)):
        return False
    try:
        return amount(str(rendered)) == amount(str(live))
    except (ValueError, KeyError):
        return False
