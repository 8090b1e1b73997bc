"""A replica that is a group of pods on several nodes: one that serves, the leader, and workers. Pure.

Decided here: what the workers' pods have in common with the leader's, how groups start, fail and are replaced. Not
here: what an engine must be told to work in a group (`vllm.py`).

Facts (LeaderWorkerSet 0.8): its webhook gives every container `LWS_LEADER_ADDRESS`, `LWS_WORKER_INDEX` and
`LWS_GROUP_SIZE`, before the container's own variables; kubelet puts them into arguments. The leader's address is known
to the cluster's DNS before the leader is ready, through a headless Service of the LeaderWorkerSet's name.

Invariants: a group works or it does not: when one of its processes ends, all its pods are made anew, as the others
would wait for it for ever. A rollout takes groups away before it makes new ones: there may be no GPUs for both.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pointsman.api import meta

Manifest = dict[str, Any]

LEADER_ADDRESS = "$(LWS_LEADER_ADDRESS)"
WORKER_INDEX = "$(LWS_WORKER_INDEX)"
"""Of a pod in its group; the leader's is 0."""
_THEIRS = "leaderworkerset.sigs.k8s.io"
GROUP_INDEX = f"{_THEIRS}/group-index"
"""Label of a pod: which group."""
SIZE = f"{_THEIRS}/size"
"""Annotation of a leader: how many pods its group has."""
AFTER_START = f"{_THEIRS}/experimental-recreate-group-after-start"
"""Annotation of a LeaderWorkerSet: a container that ends before all pods of its group have started is started again by
itself. Otherwise a pull that is tried again would throw away what the others have pulled."""
TEMPLATE_ANNOTATION = f"{meta.GROUP}/template"
"""On each pod of a group: the digest of the templates of all of them."""
WORKER = "engine-worker"
"""The component of workers: what selects the engine's pods does not select them."""
_OF_A_SERVER = ("ports", "startupProbe", "readinessProbe", "livenessProbe")
NAME_LENGTH = 40
"""Longest name of a LeaderWorkerSet: Kubernetes puts more behind it, into labels of at most 63 characters."""


def group_name(backend: str) -> str:
    """The name of a backend's LeaderWorkerSet.

    Not that of its Service: a LeaderWorkerSet wants a Service of its own name, which has pods that are not ready. And
    never with a number at its end, as `NAME-0` is also what its pods are called.
    """
    name = f"{meta.GROUP_PREFIX}{backend}"
    if len(name) <= NAME_LENGTH and not name.rpartition("-")[2].isdigit():
        return name
    return f"{name[: NAME_LENGTH - 10].rstrip('-')}-x{hashlib.sha256(backend.encode()).hexdigest()[:8]}"


def group_spec(leader: Manifest, size: int, worker_flags: tuple[str, ...]) -> Manifest:
    """The spec of a LeaderWorkerSet, less its replicas. `leader`: the pod template of a server."""
    worker = _worker(leader, worker_flags)
    text = json.dumps([leader, worker, size], sort_keys=True, separators=(",", ":"))
    digest = {TEMPLATE_ANNOTATION: hashlib.sha256(text.encode()).hexdigest()[:16]}
    return {
        # Partition is a default of theirs, written out so that nobody else's stays.
        "rolloutStrategy": {
            "type": "RollingUpdate",
            "rollingUpdateConfiguration": {"maxSurge": 0, "maxUnavailable": 1, "partition": 0},
        },
        "startupPolicy": "LeaderCreated",
        "networkConfig": {"subdomainPolicy": "Shared"},
        "leaderWorkerTemplate": {
            "size": size,
            "restartPolicy": "RecreateGroupOnPodRestart",
            "leaderTemplate": _annotated(leader, digest),
            "workerTemplate": _annotated(worker, digest),
        },
    }


def _worker(leader: Manifest, flags: tuple[str, ...]) -> Manifest:
    """The same pod, whose engine listens nowhere. It stays as long as a leader that drains needs it."""
    engine, *others = leader["spec"]["containers"]
    engine = {k: v for k, v in engine.items() if k not in _OF_A_SERVER}
    engine["args"] = [*engine["args"], *flags]
    labels = {**leader["metadata"]["labels"], meta.COMPONENT_LABEL: WORKER}
    return {
        "metadata": {**leader["metadata"], "labels": labels},
        "spec": {**leader["spec"], "containers": [engine, *others]},
    }


def _annotated(template: Manifest, notes: dict[str, str]) -> Manifest:
    metadata = template["metadata"]
    return {**template, "metadata": {**metadata, "annotations": {**(metadata.get("annotations") or {}), **notes}}}
