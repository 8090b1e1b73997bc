"""What a node says when it cannot mount a model that is an image: kubelet's words → a reason and a sentence. Pure.

Source of the words: kubelet 1.35 with containerd 2.2 and 1.6, and with the feature gate off, each recorded in
`tests/unit/controllers/test_image_causes.py`. Kubelet pulls such images as it pulls those of containers,
and says so in the status of the first container that mounts them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pointsman.api.conditions import Reason
from pointsman.controllers.workload import template
from pointsman.kube.resources import Obj

NEEDS = (
    "storage.mode Image needs image volumes: Kubernetes has them since 1.35, before that behind the feature gate"
    " ImageVolume; containerd since 2.1, CRI-O since 1.31; use storage.mode Shared or PerPod where they are missing"
)
_UNKNOWN = re.compile(r"\.image: field not declared in schema")
_NO_SOURCE = re.compile(r'failed to mkdir ""')
"""What containerd says that knows no image volumes: it sees a mount from nowhere."""
_NO_PLUGIN = re.compile(r"no volume plugin matched")
"""What kubelet says with the feature gate off."""
_BACK_OFF = re.compile(r"^Back-off pulling image \S+: \w+: ")
_WORDS: tuple[tuple[re.Pattern[str], Reason, str], ...] = (
    (
        re.compile(r"no space left on device|disk quota exceeded", re.I),
        Reason.DISK_FULL,
        "the node's disk for images is full: free some of it, or let the pods go to another node",
    ),
    (
        re.compile(r"authorization failed|unauthorized|denied|forbidden|authentication required|\b40[13]\b", re.I),
        Reason.ACCESS_DENIED,
        "the registry does not give it to these pods: name a Secret with its credentials in imagePullSecrets, or check"
        " the name",
    ),
    (
        re.compile(r"not found|manifest unknown|name unknown", re.I),
        Reason.UNKNOWN_MODEL,
        "the registry does not have it: check its name, tag and digest",
    ),
    (
        re.compile(r"x509:|tls:|server gave HTTP response", re.I),
        Reason.UNTRUSTED_CERTIFICATE,
        "the node does not trust the registry, or it does not speak TLS: set it up in the node's container runtime",
    ),
    (
        re.compile(r"no such host|connection refused|i/o timeout|no route to host|unreachable|deadline exceeded", re.I),
        Reason.REGISTRY_UNREACHABLE,
        "the node does not reach the registry",
    ),
)


@dataclass(frozen=True)
class ImageTrouble:
    reason: Reason
    sentence: str


_NO_API = ImageTrouble(Reason.NO_IMAGE_VOLUMES, f"the API server takes no image volumes: {NEEDS}")


def references(pod: Obj) -> tuple[str, ...]:
    """The images that a pod mounts as volumes."""
    volumes = (pod.get("spec") or {}).get("volumes") or ()
    return tuple(str(v["image"].get("reference") or "") for v in volumes if v.get("image"))


def trouble(status: Mapping[str, Any], images: Iterable[str]) -> ImageTrouble | None:
    """What a container that waits says of the pod's image volumes; None when it says nothing of them."""
    waiting = (status.get("state") or {}).get("waiting") or {}
    reason, message = str(waiting.get("reason") or ""), " ".join(str(waiting.get("message") or "").split())
    found = next((image for image in images if image and f'"{image}"' in message), None)
    if reason == "CreateContainerError" and _NO_SOURCE.search(message) and any(images):
        return ImageTrouble(Reason.NO_IMAGE_VOLUMES, f"the node's container runtime mounts no images: {NEEDS}")
    if reason == "ImageVolumeMountFailed":
        return ImageTrouble(Reason.VOLUME_UNBOUND, f"an image cannot be mounted: {message}")
    return None if found is None else _pull(found, message)


def volume_trouble(message: str, images: Iterable[str]) -> ImageTrouble | None:
    """The same of an Event about a volume."""
    if any(images) and _NO_PLUGIN.search(message):
        return ImageTrouble(Reason.NO_IMAGE_VOLUMES, f"the node's kubelet mounts no images: {NEEDS}")
    return None


def refused(manifest: Obj, message: str) -> ImageTrouble | None:
    """What an API server says that does not know image volumes (before Kubernetes 1.31)."""
    return _NO_API if references(template(manifest)) and _UNKNOWN.search(message) else None


def may_be_dropped(manifest: Obj, live: Obj | None) -> bool:
    """Is this the first time that an API server is given these pods' image volumes?"""
    return bool(references(template(manifest))) and not references(template(live))


def dropped(manifest: Obj, answer: Obj) -> ImageTrouble | None:
    """What an API server does without a word whose feature gate is off: it leaves the volumes out."""
    return _NO_API if references(template(manifest)) != references(template(answer)) else None


def _pull(image: str, message: str) -> ImageTrouble:
    said = _BACK_OFF.sub("", message)
    # The name itself may hold any of these words.
    words = said.replace(image, "")
    for pattern, reason, sentence in _WORDS:
        if pattern.search(words):
            return ImageTrouble(reason, f"image {image} cannot be pulled by the node: {sentence} ({_end(said)})")
    return ImageTrouble(Reason.PULL_FAILED, f"image {image} cannot be pulled by the node: {_end(said)}")


def _end(message: str) -> str:
    """The last of what programs say that quote each other, which is what happened."""
    return message if len(message) <= 200 else f"…{message[-200:]}"
