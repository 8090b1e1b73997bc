"""Models that are images (`storage.mode: Image`): what each pod does with them before its engine starts. Pure.

Decided here: the containers that look at the images and link the models to where the engine finds them. Not here: the
volumes (`engines/attached.py`), what a node says that cannot mount an image (`image_causes.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pointsman.api.model import Model
from pointsman.engines.attached import image_mounts, image_path, image_reference
from pointsman.engines.base import CONTAINER_SECURITY, STORE_PATH, Worker
from pointsman.engines.stores import VOLUME
from pointsman.kube.resources import Obj

PREFIX = "look-"


def containers(models: Iterable[Model], worker: Worker) -> list[dict[str, Any]]:
    """One after the other, as Kubernetes runs init containers."""
    return [_container(f"{PREFIX}{i}", m, worker) for i, m in enumerate(models) if m.source]


def is_look(status: Obj) -> bool:
    """Is it the status of such a container?"""
    return str(status.get("name") or "").startswith(PREFIX)


def _container(name: str, model: Model, worker: Worker) -> dict[str, Any]:
    image = image_path(image_reference(model))
    args = ["link-image", model.source, "--image", image, "--store", STORE_PATH]
    if model.digest:
        args += ["--digest", model.digest]
    return {
        "name": name,
        "image": worker.image,
        "imagePullPolicy": worker.pull_policy,
        "args": args,
        "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
        "securityContext": CONTAINER_SECURITY,
        "volumeMounts": [{"name": VOLUME, "mountPath": STORE_PATH}, *image_mounts([model])],
    }
