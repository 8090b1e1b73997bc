"""How an engine becomes a pod: what every engine shares, behind one signature. Pure.

Decided here: security, scheduling, volumes, draining and rollout of engine pods; which names of environment variables
are ours. Not here: what one engine needs (`ollama.py`, `external.py`), which objects a backend becomes
(`controllers/`).

Invariants: a pod runs as an ordinary user without capabilities, with a read-only root file system and no token; nothing
in a spec can change that. A rollout never needs a GPU or a volume that the old pod still holds. Liveness never depends
on load.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pointsman.api import meta
from pointsman.api.backend import LLMBackendSpec
from pointsman.api.model import Model
from pointsman.api.scalars import amount
from pointsman.api.sources.place import gguf, path
from pointsman.api.sources.source import parse_source
from pointsman.domain.formats import Format
from pointsman.engines import gpus
from pointsman.engines.attached import claim_mounts, claim_volumes, image_mounts, image_volumes, secret_volumes
from pointsman.engines.stores import AnyStore, ImageStore, Store, volumes, without_store

Manifest = dict[str, Any]

USER = 65532
"""User and group of every pod of ours. Volumes get the group, so that server and pull can both write."""
STORE_PATH = "/models"
TERMINATION_MARGIN = 15
"""Seconds a pod has to end after its drain."""
PROGRESS_MARGIN = 600
"""Seconds for scheduling and image pull, on top of the startup timeout, before a rollout counts as stuck."""
STARTUP_PERIOD = 2
"""Seconds between two checks of a starting server."""
READ_BYTES_A_SECOND = 256 * 2**20
"""How fast a model is read at least."""
GPU_SECONDS = 300
"""Time to fill a GPU's memory (80 GB) at that speed."""
WAIT_PREFIX = "model-"
"""How the containers begin that wait for a model."""
HOSTNAME = "kubernetes.io/hostname"
ALL = "100%"

POD_SECURITY: Manifest = {
    "runAsNonRoot": True,
    "runAsUser": USER,
    "runAsGroup": USER,
    "fsGroup": USER,
    "fsGroupChangePolicy": "OnRootMismatch",
    "seccompProfile": {"type": "RuntimeDefault"},
}
CONTAINER_SECURITY: Manifest = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


class Driver(Protocol):
    """One engine. The only questions that differ from engine to engine."""

    runs_pods: bool

    def port(self, spec: LLMBackendSpec) -> int:
        """Where the engine listens in its pod; 0 for an engine that runs elsewhere."""
        ...

    def problem(self, spec: LLMBackendSpec) -> str | None:
        """What is wrong with a spec that its schema cannot see, in one sentence; None when nothing is."""
        ...

    def container(self, spec: LLMBackendSpec, image: str) -> Manifest:
        """The engine's container; its mounts name the volumes `store` and those of `scratch`."""
        ...

    def scratch(self, spec: LLMBackendSpec) -> tuple[Scratch, ...]:
        """The empty directories the container needs."""
        ...

    @property
    def worker_flags(self) -> tuple[str, ...]:
        """What the other pods of a replica on several nodes are told beside what its first is told."""
        ...

    @property
    def reads_files(self) -> bool:
        """True when the server reads its models once, at its start: its pods wait until they are whole."""
        ...

    @property
    def loads(self) -> frozenset[Format]:
        """One of these a model must be (`loadable.py`); empty: nobody but the engine knows."""
        ...


@dataclass(frozen=True)
class Scratch:
    """A directory of a pod that is empty at its start, or holds one file of ours."""

    name: str
    path: str
    in_memory: bool = False
    file: str = ""
    """Name of the file; the directory is read-only then."""
    text: str = ""

    def volume(self) -> Manifest:
        if not self.file:
            return {"name": self.name, "emptyDir": {"medium": "Memory"} if self.in_memory else {}}
        ref = {"fieldPath": f"metadata.annotations['{self.annotation}']"}
        return {"name": self.name, "downwardAPI": {"items": [{"path": self.file, "fieldRef": ref}]}}

    @property
    def annotation(self) -> str:
        """Where the pod keeps the file's text, so that it needs no ConfigMap."""
        return f"{meta.GROUP}/{self.file}"


TMP = Scratch("tmp", "/tmp")  # noqa: S108  the container's own


@dataclass(frozen=True)
class Worker:
    """The image of Pointsman itself, for what a pod does before its engine starts."""

    image: str
    pull_policy: str


def pod_template(
    driver: Driver,
    spec: LLMBackendSpec,
    labels: dict[str, str],
    image: str,
    store: AnyStore | None,
    worker: Worker,
    fills: Sequence[Manifest] = (),
) -> Manifest:
    """The template of a backend's pods that serve. `fills`: the containers that bring the models into a store of the
    pod's own."""
    container = {
        **without_store(driver.container(spec, image), store),
        "imagePullPolicy": worker.pull_policy,
        # What an engine says before it ends is the only word on why: nobody here reads its log.
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    if spec.drain_seconds_or_default:
        # A pod that leaves is out of the EndpointSlice at once; its engine must live until its streams are done.
        container["lifecycle"] = {"preStop": {"sleep": {"seconds": spec.drain_seconds_or_default}}}
    pod: Manifest = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": POD_SECURITY,
        "terminationGracePeriodSeconds": spec.drain_seconds_or_default + TERMINATION_MARGIN,
        "containers": [container],
        "volumes": [
            *volumes(store),
            *(s.volume() for s in driver.scratch(spec)),
            *(secret_volumes(spec.served) if fills else ()),
            *claim_volumes(spec.served),
            *(image_volumes(spec.served) if isinstance(store, ImageStore) else ()),
        ],
        **placement(spec, store),
    }
    before = list(fills)
    if driver.reads_files and isinstance(store, Store):
        before = [without_store(_wait(m, worker, i), store) for i, m in enumerate(spec.served) if m.source]
    if before:
        pod["initContainers"] = before
    if spec.image_pull_secrets:
        pod["imagePullSecrets"] = [{"name": s.name} for s in spec.image_pull_secrets]
    volume = {meta.VOLUME_LABEL: store.label} if isinstance(store, Store) else {}
    metadata: Manifest = {"labels": {**labels, **volume}}
    if files := {s.annotation: s.text for s in driver.scratch(spec) if s.file}:
        metadata["annotations"] = files
    return {"metadata": metadata, "spec": pod}


def _wait(model: Model, worker: Worker, index: int) -> Manifest:
    """The container that ends when the model is whole in the store; who pulls it is a Job."""
    args = ["wait-model", model.source or "", "--store", STORE_PATH]
    if model.digest:
        args += ["--digest", model.digest]
    return {
        "name": f"{WAIT_PREFIX}{index}",
        "image": worker.image,
        "imagePullPolicy": worker.pull_policy,
        "args": args,
        "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
        "securityContext": CONTAINER_SECURITY,
        "volumeMounts": [
            {"name": "store", "mountPath": STORE_PATH, "readOnly": True},
            *claim_mounts([model]),
        ],
    }


def mounts(driver: Driver, spec: LLMBackendSpec, *, read_only: bool = False, at: str = STORE_PATH) -> list[Manifest]:
    """The store, for models with a source, and the driver's empty directories, in the engine's container."""
    store: Manifest = {"name": "store", "mountPath": at}
    if read_only:
        store["readOnly"] = True
    has_store = [store] if spec.has_sources else []
    scratch = ({"name": s.name, "mountPath": s.path} for s in driver.scratch(spec))
    images = image_mounts(spec.served) if spec.mounts_images else []
    return [*has_store, *scratch, *claim_mounts(spec.served), *images]


def model_path(model: Model, *, at: str = STORE_PATH) -> str:
    """Where an engine's container finds a model that is pulled as files. `Driver.problem` has made sure that its source
    can be read. `at`: where the store is mounted."""
    return _below(at, path(parse_source(model.source or ""), model.digest))


def gguf_path(model: Model) -> str:
    """The same, for a server that reads one GGUF file."""
    return _below(STORE_PATH, gguf(parse_source(model.source or ""), model.digest))


def _below(at: str, place: str) -> str:
    return place if place.startswith("/") else f"{at}/{place}"


def http_probes(get: str, startup_seconds: float) -> Manifest:
    """The probes of a server that answers `get` with 200 when it can take requests."""
    ready = {"httpGet": {"path": get, "port": "http"}}
    return {
        "startupProbe": {
            **ready,
            "periodSeconds": STARTUP_PERIOD,
            "timeoutSeconds": 2,
            "failureThreshold": max(1, math.ceil(startup_seconds / STARTUP_PERIOD)),
        },
        "readinessProbe": {**ready, "periodSeconds": 5, "timeoutSeconds": 5, "failureThreshold": 3},
        # Only a process that no longer accepts connections is killed: a busy one answers late, and must live.
        "livenessProbe": {
            "tcpSocket": {"port": "http"}, "periodSeconds": 20, "timeoutSeconds": 10, "failureThreshold": 6,
        },
    }  # fmt: skip


def placement(spec: LLMBackendSpec, store: AnyStore | None) -> Manifest:
    """On which nodes a pod may run that uses this store: the pull Job's pods go by it too."""
    out: Manifest = {}
    if selector := {**(spec.node_selector or {}), **(gpus.node_selector(spec.gpu) if spec.gpu else {})}:
        out["nodeSelector"] = selector
    tolerations = [t.to_api() for t in spec.tolerations or ()]
    if spec.gpu is not None:
        tolerations += gpus.tolerations(spec.gpu)
    if tolerations:
        out["tolerations"] = tolerations
    if spec.runtime_class_name:
        out["runtimeClassName"] = spec.runtime_class_name
    if isinstance(store, Store) and store.one_node:
        # The scheduler lets the first pod of such a group go anywhere: it matches its own term.
        out["affinity"] = {
            "podAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": [
                    {
                        "labelSelector": {"matchLabels": {meta.VOLUME_LABEL: store.label}},
                        "topologyKey": HOSTNAME,
                    }
                ]
            }
        }
    return out


def startup_seconds(driver: Driver, spec: LLMBackendSpec) -> float:
    """How long a pod may take to answer its first check.

    When the spec does not say: ten minutes, and for an engine that reads its model at its start the time that a full
    memory takes to be read at 256 MiB/s (a network disk), too: five minutes for each GPU, or what `resources` has of
    memory. So it grows with the model and changes only with what starts pods anew anyway.
    """
    if spec.startup_timeout is not None or not driver.reads_files:
        return spec.startup_seconds
    if spec.gpu is not None:
        return spec.startup_seconds + spec.gpu.count * GPU_SECONDS
    given = spec.resources
    memory = None if given is None else given.limits.get("memory") or given.requests.get("memory")
    return spec.startup_seconds + (0 if memory is None else math.ceil(amount(memory) / READ_BYTES_A_SECOND))


def rollout(driver: Driver, spec: LLMBackendSpec, store: AnyStore | None, *, moves: bool) -> Manifest:
    """The parts of a Deployment's spec that say how pods are replaced.

    `moves`: the pods go to other nodes while their volume holds them together. New ones could never join old ones
    there, so the old ones all go first.
    """
    one_node = isinstance(store, Store) and store.one_node
    update: Manifest = {"maxSurge": 0, "maxUnavailable": ALL if moves and one_node else 1}
    if spec.gpu is None and not one_node:
        update = {"maxSurge": 1, "maxUnavailable": 0}
    return {
        "strategy": {"type": "RollingUpdate", "rollingUpdate": update},
        "progressDeadlineSeconds": int(startup_seconds(driver, spec)) + PROGRESS_MARGIN,
        "revisionHistoryLimit": 3,
    }


def resources(spec: LLMBackendSpec) -> Manifest:
    """Requests and limits of the engine's container, with its GPUs."""
    given = spec.resources
    requests = dict(given.requests) if given else {}
    limits = dict(given.limits) if given else {}
    if spec.gpu is not None:
        wanted = gpus.need(spec.gpu)
        requests[wanted.resource] = limits[wanted.resource] = str(wanted.count)
    return {k: v for k, v in (("requests", requests), ("limits", limits)) if v}


def environment(ours: dict[str, str], spec: LLMBackendSpec) -> list[Manifest]:
    """Our variables, then the user's. `Driver.problem` has made sure that they do not overlap."""
    return [
        *({"name": k, "value": v} for k, v in ours.items()),
        *({"name": e.name, "value": e.value} for e in spec.env or ()),
    ]
