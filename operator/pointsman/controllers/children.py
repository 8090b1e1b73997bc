"""The objects a backend with an engine of ours becomes: Deployment (or LeaderWorkerSet), headless Service, claim.
Pure.

Decided here: their names, labels and owner references. Not here: what is in the pod (`engines/`), when they are applied
(`plan_backend.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from pointsman.api import meta
from pointsman.api.objects import LLMBackend
from pointsman.api.scalars import amount
from pointsman.api.sources.error import SourceError
from pointsman.api.storage import AccessMode
from pointsman.controllers import adapters
from pointsman.controllers.drift import stamped
from pointsman.controllers.loaded import CONTENT_ANNOTATION, LOADED_ANNOTATION, Loaded
from pointsman.controllers.ownership import OWNER_ANNOTATION, owner_reference
from pointsman.controllers.workload import template as template_of
from pointsman.engines.attached import claims
from pointsman.engines.base import ALL, Driver, Worker, pod_template, rollout
from pointsman.engines.groups import AFTER_START, group_name, group_spec
from pointsman.engines.stores import VOLUME, AnyStore, ImageStore, OwnStore, Store
from pointsman.kube.resources import LEADER_WORKER_SETS, Obj

ENGINE_COMPONENT = "engine"
UNKNOWN = Loaded()
MANY_NODES = frozenset(("ReadWriteMany", "ReadOnlyMany"))
"""Access modes of a claim that pods on several nodes can read."""
PLACEMENT = ("nodeSelector", "tolerations", "runtimeClassName")
"""What of a pod decides about its node and can be changed in a spec."""


def selector(backend: str) -> dict[str, str]:
    """The labels of a backend's serving pods, and of nothing else."""
    return {meta.BACKEND_LABEL: backend, meta.COMPONENT_LABEL: ENGINE_COMPONENT}


def selector_text(backend: str) -> str:
    """`status.selector`, for the scale subresource."""
    return ",".join(f"{k}={v}" for k, v in selector(backend).items())


def labels(backend: str) -> dict[str, str]:
    return {
        meta.MANAGED_BY_LABEL: meta.MANAGED_BY,
        "app.kubernetes.io/name": "pointsman-backend",
        "app.kubernetes.io/instance": backend,
        **selector(backend),
    }


def store_of(backend: LLMBackend, claim: Obj | None, live: Obj | None = None) -> AnyStore | None:
    """Where the models lie; None for models without a source. `claim`: what is known of `users_claim`, whose own access
    modes count, not the spec's."""
    spec, storage = backend.spec, backend.spec.storage_or_default
    if not spec.has_sources:
        return None
    if spec.mounts_images:
        return ImageStore()
    theirs = users_claim(backend, live)
    if theirs is None:
        if spec.fills_pods:
            return OwnStore(storage.size, storage.storage_class_name)
        return Store(meta.child_name(backend.meta.name), one_node=storage.access_mode is AccessMode.READ_WRITE_ONCE)
    modes = ((claim or {}).get("spec") or {}).get("accessModes") or (storage.access_mode.value,)
    return Store(theirs, one_node=not set(modes) & MANY_NODES, mounted=theirs == storage.existing_claim)


def users_claim(backend: LLMBackend, live: Obj | None) -> str | None:
    """The claim of the user's that the models are in: `storage.existingClaim`, or that of `pvc://` where there is
    nothing to fetch. None: a volume of ours.

    Pods that have a volume of ours keep it, also when it is not needed any more: taking it from them would start them
    anew, and what is in it may be the only copy.
    """
    if (existing := backend.spec.storage_or_default.existing_claim) is not None:
        return existing
    if backend.spec.needs_store or _mounts_store(live):
        return None
    with suppress(SourceError):  # a source that cannot be read is said by the plan
        return next(iter(claims(backend.spec.served)), None)
    return None


def _mounts_store(live: Obj | None) -> bool:
    return any(v.get("name") == VOLUME for v in (template_of(live).get("spec") or {}).get("volumes") or ())


def service(backend: LLMBackend, driver: Driver) -> Obj:
    """EndpointSlices inherit a Service's labels: the gateways find a backend's pods by them."""
    spec: dict[str, Any] = {
        "clusterIP": "None",
        "selector": selector(backend.meta.name),
        "ports": [{"name": "http", "port": driver.port(backend.spec), "targetPort": "http", "protocol": "TCP"}],
    }
    return stamped({"apiVersion": "v1", "kind": "Service", "metadata": _metadata(backend), "spec": spec})


def claim(backend: LLMBackend, live: Obj | None) -> Obj:
    """The claim of the backend's own volume. A size that somebody grew by hand is kept: volumes cannot shrink."""
    storage = backend.spec.storage_or_default
    size = storage.size
    have = ((((live or {}).get("spec") or {}).get("resources") or {}).get("requests") or {}).get("storage")
    if have is not None:
        try:
            size = have if amount(have) > amount(size) else size
        except (ValueError, KeyError):
            size = have
    spec: dict[str, Any] = {"accessModes": [storage.access_mode.value], "resources": {"requests": {"storage": size}}}
    if storage.storage_class_name:
        spec["storageClassName"] = storage.storage_class_name
    metadata = _metadata(backend, owned=not storage.retain)
    return stamped({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec})


def workload(
    backend: LLMBackend,
    driver: Driver,
    image: str,
    store: AnyStore | None,
    worker: Worker,
    live: Obj | None = None,
    have: Loaded = UNKNOWN,
    fills: Sequence[Obj] = (),
    replicas: int | None = None,
) -> Obj:
    """What runs its pods. `replicas`: the spec's when None. The field is always written: one that was applied once and
    is left out later falls back to its default."""
    name = backend.meta.name
    template = pod_template(driver, backend.spec, labels(name), image, store, worker, fills)
    if have.pods:
        template["metadata"].setdefault("annotations", {})[CONTENT_ANNOTATION] = have.pods
    metadata = _metadata(backend)
    metadata["annotations"] |= adapters.annotation(backend)
    if have.workload:
        metadata["annotations"][LOADED_ANNOTATION] = have.workload
    wanted = backend.spec.replicas if replicas is None else replicas
    if (size := backend.spec.pods_of_a_replica) > 1:
        metadata["name"] = group_name(name)
        metadata["annotations"][AFTER_START] = "true"
        of = LEADER_WORKER_SETS
        groups = {"replicas": wanted, **group_spec(template, size, driver.worker_flags)}
        return stamped({"apiVersion": of.api_version, "kind": of.kind, "metadata": metadata, "spec": groups})
    spec = {
        "replicas": wanted,
        "selector": {"matchLabels": selector(name)},
        **rollout(driver, backend.spec, store, moves=_moves(template, live)),
        "template": template,
    }
    return stamped({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec})


def _moves(template: Obj, live: Obj | None) -> bool:
    """Do the pods of a rollout, due or under way, go to other nodes than those before?"""
    old = ((live or {}).get("spec") or {}).get("template", {}).get("spec")
    if live is None or old is None:
        return False
    if any((old.get(k) or None) != (template["spec"].get(k) or None) for k in PLACEMENT):
        return True
    under_way = (live["spec"].get("strategy") or {}).get("rollingUpdate", {}).get("maxUnavailable") == ALL
    has = live.get("status") or {}
    done = has.get("observedGeneration") == live["metadata"].get("generation") and (
        int(has.get("updatedReplicas") or 0) >= int(live["spec"].get("replicas") or 0)
    )
    return under_way and not done


def _metadata(backend: LLMBackend, *, owned: bool = True) -> dict[str, Any]:
    out: dict[str, Any] = {
        "name": meta.child_name(backend.meta.name),
        "namespace": backend.meta.namespace,
        "labels": labels(backend.meta.name),
        "annotations": {OWNER_ANNOTATION: backend.meta.uid},
    }
    if owned:
        out["ownerReferences"] = [owner_reference(backend)]
    return out
