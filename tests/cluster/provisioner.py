"""Makes and removes volumes on demand, as a storage driver of a real cluster does (external-provisioner's protocol).

A claim is provisioned when the volume controller names us on it and, for a class that waits for the first consumer,
the scheduler has chosen a node. Volumes are of type ``local``: unlike hostPath, kubelet applies a pod's ``fsGroup`` to
them, and without one only root may write, as on a freshly formatted cloud disk. A released volume is removed with its
files.
"""

from __future__ import annotations

import shutil
import sys
import threading
import time
from pathlib import Path

from tests.cluster.api import Api, ApiError, Object
from tests.cluster.plan import NODE

PROVISIONER = "pointsman.dev/test-volumes"
CLAIMS = "/api/v1/persistentvolumeclaims"
VOLUMES = "/api/v1/persistentvolumes"

_NAMED_US = "volume.kubernetes.io/storage-provisioner"
_CHOSEN_NODE = "volume.kubernetes.io/selected-node"
_MADE_BY = "pv.kubernetes.io/provisioned-by"
_RESYNC_SECONDS = 60


def storage_classes() -> list[tuple[str, Object]]:
    """``local`` (the default; waits for the first consumer) and ``local-immediate``; each with its collection."""
    classes = []
    for name, mode, default in (("local", "WaitForFirstConsumer", "true"), ("local-immediate", "Immediate", "false")):
        body: Object = {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": name, "annotations": {"storageclass.kubernetes.io/is-default-class": default}},
            "provisioner": PROVISIONER,
            "reclaimPolicy": "Delete",
            "volumeBindingMode": mode,
            "allowVolumeExpansion": True,
        }
        classes.append(("/apis/storage.k8s.io/v1/storageclasses", body))
    return classes


def wants_volume(claim: Object, waiting_classes: set[str]) -> bool:
    """Whether it is our turn: unbound, named us, and scheduled where its class waits for that."""
    annotations = claim["metadata"].get("annotations", {})
    if (
        claim["status"].get("phase") != "Pending"
        or claim["spec"].get("volumeName")
        or annotations.get(_NAMED_US) != PROVISIONER
    ):
        return False
    return claim["spec"].get("storageClassName") not in waiting_classes or _CHOSEN_NODE in annotations


def volume_for(claim: Object, folder: Path) -> Object:
    """The volume that is bound to this claim, as large as it asks for."""
    metadata = claim["metadata"]
    reference = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "uid": metadata["uid"]}
    on_node = {"key": "kubernetes.io/hostname", "operator": "In", "values": [NODE]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": folder.name, "annotations": {_MADE_BY: PROVISIONER}},
        "spec": {
            "capacity": {"storage": claim["spec"]["resources"]["requests"]["storage"]},
            "accessModes": claim["spec"]["accessModes"],
            "volumeMode": "Filesystem",
            "persistentVolumeReclaimPolicy": "Delete",
            "storageClassName": claim["spec"]["storageClassName"],
            "claimRef": {**reference, "namespace": metadata["namespace"], "name": metadata["name"]},
            "local": {"path": str(folder)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [on_node]}]}},
        },
    }


def reconcile(api: Api, root: Path) -> None:
    """One level-based pass over all claims and volumes."""
    classes = api.get("/apis/storage.k8s.io/v1/storageclasses")["items"]
    waiting = {item["metadata"]["name"] for item in classes if item["volumeBindingMode"] == "WaitForFirstConsumer"}
    volumes = {item["metadata"]["name"]: item for item in api.get(VOLUMES)["items"]}
    for claim in api.get(CLAIMS)["items"]:
        folder = root / f"pvc-{claim['metadata']['uid']}"
        if folder.name not in volumes:
            if wants_volume(claim, waiting):
                folder.mkdir(parents=True, exist_ok=True)
                api.apply(VOLUMES, volume_for(claim, folder))
        elif claim["status"].get("phase") == "Bound":
            _grow(api, claim, folder.name)
    for name, volume in volumes.items():
        ours = volume["metadata"].get("annotations", {}).get(_MADE_BY) == PROVISIONER
        if (
            ours
            and volume["status"].get("phase") == "Released"
            and volume["spec"]["persistentVolumeReclaimPolicy"] == "Delete"
        ):
            shutil.rmtree(root / name, ignore_errors=True)
            api.delete(f"{VOLUMES}/{name}")


def _grow(api: Api, claim: Object, volume: str) -> None:
    """A folder has no size, so growing one is only said (external-resizer's part)."""
    asked = claim["spec"]["resources"]["requests"]["storage"]
    if claim["status"]["capacity"]["storage"] != asked:
        api.merge(f"{VOLUMES}/{volume}", {"spec": {"capacity": {"storage": asked}}})
        metadata = claim["metadata"]
        path = f"/api/v1/namespaces/{metadata['namespace']}/persistentvolumeclaims/{metadata['name']}"
        api.merge(f"{path}/status", {"status": {"capacity": {"storage": asked}}})


def run(api: Api, root: Path) -> None:
    """Reconcile after each change of a claim or volume, for ever."""
    changed = threading.Event()
    for path in (CLAIMS, VOLUMES):
        threading.Thread(target=_follow, args=(api, path, changed), daemon=True).start()
    while True:
        changed.clear()
        try:
            reconcile(api, root)
        except (OSError, ApiError) as error:
            print(f"again in a second: {error}", file=sys.stderr)
            time.sleep(1)
            continue
        changed.wait(_RESYNC_SECONDS)


def _follow(api: Api, path: str, changed: threading.Event) -> None:
    while True:
        try:
            since = api.get(path)["metadata"]["resourceVersion"]
            changed.set()
            for _ in api.watch(path, since, _RESYNC_SECONDS * 5):
                changed.set()
        except (OSError, ApiError, ValueError) as error:
            print(f"watch of {path}: {error}", file=sys.stderr)
            time.sleep(1)


if __name__ == "__main__":
    url, state = sys.argv[1:]
    run(Api(url, Path(state) / "pki"), Path(state) / "volumes")
