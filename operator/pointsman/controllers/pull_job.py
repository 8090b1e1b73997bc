"""The Job that pulls one model into one volume: its name, its manifest, and what it says when it has ended. Pure.

Decided here: what makes two pulls the same (source, pin, volume, Secret), which failures stop a Job at once, how long
to wait before a failed one is made anew. Not here: how a model travels (`models/`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from pointsman.api import meta
from pointsman.api.model import Model
from pointsman.api.objects import LLMBackend
from pointsman.api.sources.source import parse_source
from pointsman.controllers.conditions import unix
from pointsman.controllers.ownership import owner_reference
from pointsman.controllers.settings import Settings
from pointsman.engines.attached import CREDENTIALS_PATH, claim_mounts, claim_volumes, secret_mounts, secret_volumes
from pointsman.engines.base import CONTAINER_SECURITY, POD_SECURITY, STORE_PATH, TMP, Worker, placement
from pointsman.engines.stores import VOLUME, Store, volumes, without_store
from pointsman.kube.resources import Obj, annotations_of
from pointsman.models.errors import PERMANENT_EXIT_CODES
from pointsman.models.outcome import PullOutcome, decode_outcome

PULL_COMPONENT = "pull"
CONTAINER = "pull"
REPORT_PORT = 9091
ASKED_ANNOTATION = f"{meta.GROUP}/asked"
"""Which asking (`Observed.asked`) the Job was made for."""
BACKOFF_LIMIT = 3
"""Pods that may fail before the Job does (Kubernetes waits 10, 20, 40 s between them)."""
ROUND_ANNOTATION = f"{meta.GROUP}/round"
"""How often the Job was made anew."""
SECRET_ANNOTATION = f"{meta.GROUP}/secret"
"""Which object and version the model's Secret was when the Job was made: `<uid>/<resourceVersion>`."""
FIRST_WAIT = 60.0
LONGEST_WAIT = 900.0
"""Seconds before a failed Job is made anew: doubling from the first to the longest."""


def job_name(model: Model, volume_uid: str) -> str:
    """One pull per (source, pin, volume, Secret). Raises `SourceError`."""
    parts = [str(parse_source(model.source or "")), model.digest or "", volume_uid]
    if model.secret_ref is not None:  # other credentials, another try
        parts.append(model.secret_ref.name)
    key = "\n".join(parts)
    return "pmb-pull-" + hashlib.sha256(key.encode()).hexdigest()[:10]


def container(name: str, model: Model, settings: Settings, worker: Worker) -> dict[str, Any]:
    """The container that pulls one model into the store of its pod."""
    args = ["pull", model.source, "--store", STORE_PATH, "--report-port", str(REPORT_PORT)]
    if model.digest:
        args += ["--digest", model.digest]
    if settings.pull.parallel:
        args += ["--parallel", str(settings.pull.parallel)]
    if model.secret_ref is not None:
        args += ["--credentials", CREDENTIALS_PATH]
    token = {"secretKeyRef": {"name": meta.REPORT_SECRET, "key": meta.REPORT_SECRET_KEY}}
    return {
        "name": name,
        "image": worker.image,
        "imagePullPolicy": worker.pull_policy,
        "args": args,
        "env": [{"name": "POINTSMAN_REPORT_TOKEN", "valueFrom": token}, {"name": "HOME", "value": TMP.path}],
        "ports": [{"name": "report", "containerPort": REPORT_PORT, "protocol": "TCP"}],
        "resources": settings.pull.resources.to_api(),
        "securityContext": CONTAINER_SECURITY,
        "volumeMounts": [
            {"name": VOLUME, "mountPath": STORE_PATH},
            {"name": TMP.name, "mountPath": TMP.path},
            *secret_mounts(model),
            *claim_mounts([model]),
        ],
    }


def job(
    backend: LLMBackend,
    model: Model,
    name: str,
    store: Store,
    settings: Settings,
    round_: int,
    *,
    verify: bool = False,
    secret: str = "",
    asked: str = "",
) -> Obj:
    """Made once and never applied again: a Job's template cannot change. It follows the store to its node and carries
    the server's node constraints, so that it never binds the volume where the server cannot run.

    `verify`: what is in the volume already is hashed again, and fetched anew where it is damaged. `secret`: which
    object and version the model's Secret is; `asked`: which asking it is made for."""
    labels = {
        meta.MANAGED_BY_LABEL: meta.MANAGED_BY,
        "app.kubernetes.io/name": "pointsman-pull",
        meta.COMPONENT_LABEL: PULL_COMPONENT,
        meta.SOURCE_LABEL: name,
    }
    worker = Worker(settings.image, settings.image_pull_policy)
    pulls = without_store(container(CONTAINER, model, settings, worker), store)
    if verify:
        pulls["args"].append("--verify")
    where = placement(backend.spec, store)
    where.pop("runtimeClassName", None)  # a pull needs no GPU runtime
    if not store.one_node:
        where = {}
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": POD_SECURITY,
        "terminationGracePeriodSeconds": 30,
        "containers": [pulls],
        "volumes": [
            *volumes(store),
            {"name": TMP.name, "emptyDir": {}},
            *secret_volumes([model]),
            *claim_volumes([model]),
        ],
        **where,
    }
    if settings.image_pull_secrets:
        pod["imagePullSecrets"] = [{"name": s} for s in settings.image_pull_secrets]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": backend.meta.namespace,
            "labels": labels,
            "annotations": {ROUND_ANNOTATION: str(round_)}
            | ({SECRET_ANNOTATION: secret} if secret else {})
            | ({ASKED_ANNOTATION: asked} if asked else {}),
            "ownerReferences": [owner_reference(backend, controller=False)],
        },
        "spec": {
            "backoffLimit": BACKOFF_LIMIT,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {
                "rules": [
                    {
                        "action": "FailJob",
                        "onExitCodes": {
                            "containerName": CONTAINER, "operator": "In", "values": sorted(PERMANENT_EXIT_CODES),
                        },
                    },
                    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                ]
            },
            "template": {"metadata": {"labels": {**labels, meta.VOLUME_LABEL: store.label}}, "spec": pod},
        },
    }  # fmt: skip


@dataclass(frozen=True)
class JobEnd:
    """How a Job ended."""

    complete: bool
    outcome: PullOutcome | None
    """What its last pod left; None when that pod is gone or was killed."""
    at: float
    """Unix seconds."""
    round: int

    @property
    def permanent(self) -> bool:
        return self.outcome is not None and self.outcome.permanent

    @property
    def again_at(self) -> float:
        """When it may be made anew, in Unix seconds."""
        return self.at + min(LONGEST_WAIT, FIRST_WAIT * 2.0**self.round)


def job_end(live: Obj, pods: Iterable[Obj]) -> JobEnd | None:
    """None while the Job runs."""
    status = live.get("status") or {}
    for condition in status.get("conditions") or ():
        if condition.get("status") == "True" and condition.get("type") in ("Complete", "Failed"):
            complete = condition["type"] == "Complete"
            at = unix(condition.get("lastTransitionTime") or "")
            return JobEnd(complete, outcome_of(pods, complete), at, round_of(live))
    return None


def round_of(live: Obj) -> int:
    try:
        return min(int(annotations_of(live).get(ROUND_ANNOTATION, "0")), 32)
    except ValueError:
        return 0


def outcome_of(pods: Iterable[Obj], complete: bool) -> PullOutcome | None:
    """The outcome of the newest pod that left one of the right kind."""
    found: list[tuple[str, PullOutcome]] = []
    for pod in pods:
        for container in (pod.get("status") or {}).get("containerStatuses") or ():
            ended = (container.get("state") or {}).get("terminated") or {}
            try:
                outcome = decode_outcome(ended.get("message") or "")
            except msgspec.DecodeError:
                continue
            if (outcome.state == "Pulled") == complete:
                found.append((ended.get("finishedAt") or "", outcome))
    return max(found, key=lambda f: f[0])[1] if found else None
