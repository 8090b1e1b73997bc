"""What is to be done for a backend: observed → plan. Pure: the same view gives the same plan, and the plan of what was
carried out is empty.

Decided here: which children are written, and what must be mended by somebody first. Not here: which pulls are started
(`plan_pulls.py`), what children look like (`children.py`), what the status says of it all (`backend_status.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pointsman.api.conditions import Reason
from pointsman.api.sources.error import SourceError
from pointsman.api.sources.source import parse_source
from pointsman.controllers import adapters, children, image_looks, own_pulls, plan_pulls
from pointsman.controllers.drift import APPLIED_ANNOTATION, drift
from pointsman.controllers.loaded import Loaded, loaded
from pointsman.controllers.observed import Observed, Problem
from pointsman.controllers.ownership import Whose, whose
from pointsman.controllers.plan_pulls import Pull
from pointsman.controllers.steps import PREDECESSOR_SECONDS, Apply, Delete, Draft, Step
from pointsman.controllers.workload import template
from pointsman.engines.base import Worker
from pointsman.engines.drivers import DRIVERS
from pointsman.engines.stores import AnyStore, ImageStore, OwnStore, Store
from pointsman.kube.resources import Obj, annotations_of, is_deleting, name_of

KIND_SECONDS = 10.0
"""How soon to look again for a kind that the cluster has not got."""
CLAIM_SECONDS = 30.0
"""How soon to look again for a claim or a foreign object: neither is watched."""


@dataclass(frozen=True)
class Plan:
    steps: tuple[Step, ...] = ()
    problem: Problem | None = None
    pulls: tuple[Pull, ...] = ()
    store: AnyStore | None = None
    wait: str = ""
    """What must happen first that is nobody's fault."""
    asked_later: bool = False
    """What was asked for is done when the pull under way has ended."""
    again: float | None = None
    """Seconds until it may look different without an event."""

    def soon(self, seconds: float) -> Plan:
        return replace(self, again=seconds if self.again is None else min(self.again, seconds))


def plan(seen: Observed) -> Plan:
    backend = seen.backend
    driver = DRIVERS[backend.spec.engine]
    if not driver.runs_pods:
        return Plan()
    if (bad := _invalid(seen)) is not None:
        return Plan(problem=bad)
    store = children.store_of(backend, seen.claim, seen.workload or seen.outgoing)
    existing = children.users_claim(backend, seen.workload or seen.outgoing) if store else None
    if existing and (seen.claim is None or is_deleting(seen.claim)):
        named = backend.spec.storage_or_default.existing_claim is not None
        otherwise = "remove storage.existingClaim" if named else "correct the source"
        message = f"PersistentVolumeClaim {existing} does not exist: create it, or {otherwise}"
        return Plan(problem=Problem(Reason.CLAIM_MISSING, message), again=CLAIM_SECONDS)
    if seen.no_groups:
        return Plan(problem=Problem(Reason.NO_LEADER_WORKER_SETS, seen.no_groups), store=store, again=KIND_SECONDS)
    if backend.spec.pods_of_a_replica > 1 and isinstance(store, Store) and store.one_node:
        message = (
            f"PersistentVolumeClaim {store.claim} cannot be ReadWriteMany, and spec.vllm.nodes asks for pods on several"
            " nodes: use one that can, or storage.mode PerPod"
        )
        return Plan(problem=Problem(Reason.INVALID_SPEC, message), store=store, again=CLAIM_SECONDS)
    draft = Draft()
    image, _ = seen.image()
    wanted = [(children.service(backend, driver), seen.service)]
    if isinstance(store, Store) and not existing:
        wanted.append((children.claim(backend, seen.claim), seen.claim))
    worker = _worker(seen)
    pulling = Draft()
    pulls = plan_pulls.pulls(seen, store, pulling)
    have = loaded(seen.workload, plan_pulls.contents(pulls)) if driver.reads_files else Loaded()
    fills = _fills(seen, store, worker)
    deployed = seen.workload
    if seen.outgoing is not None and whose(seen.outgoing, backend) is Whose.OURS and not is_deleting(seen.outgoing):
        # First, as both may need the same GPUs. The volume is not its, and stays.
        draft.steps.append(Delete(seen.outgoing, "the spec asks for another kind"))
    rest = (driver, image, store, worker, deployed, have, fills, seen.replicas)
    manifest = children.workload(backend, *rest)
    before = adapters.started_with(deployed)
    if before and isinstance(store, Store) and before != adapters.of(backend) and adapters.of(backend):
        kept = children.workload(adapters.among(backend, before), *rest)
        manifest = kept if adapters.same_pods(kept, deployed) else manifest
    wanted.append((manifest, deployed))
    for manifest, live in wanted:
        if live is not None:
            if is_deleting(live) or whose(live, backend) is Whose.PREDECESSOR:
                what = f"the old {live['kind']} {name_of(live)} is still being deleted"
                return Plan(wait=what, store=store, again=PREDECESSOR_SECONDS)
            if whose(live, backend) is Whose.FOREIGN:
                return Plan(problem=taken(live), store=store, again=CLAIM_SECONDS)
        if (why := _differs(manifest, live)) is not None:
            draft.steps.append(Apply(manifest, live, why))
    plan_pulls.prune(seen, {p.name for p in pulls}, pulling)
    steps = (*draft.steps, *pulling.steps)
    return Plan(
        steps, pulls=pulls, store=store, asked_later=pulling.asked_later, again=min(pulling.again, default=None)
    )


def taken(live: Obj) -> Problem:
    what = f"{live['kind']} {name_of(live)}"
    return Problem(
        Reason.NAME_TAKEN,
        f"{what} exists and belongs to somebody else; it is left alone. Delete or rename it, or give this backend"
        " another name",
    )


def _invalid(seen: Observed) -> Problem | None:
    spec = seen.backend.spec
    if seen.mistaken is not None:
        return seen.mistaken
    if (sentence := DRIVERS[spec.engine].problem(spec)) is not None:
        return Problem(Reason.INVALID_SPEC, sentence)
    for model in spec.served:
        try:
            if model.source:
                parse_source(model.source)
        except SourceError as error:
            return Problem(Reason.BAD_REFERENCE, f"the source of model {model.name}: {error}")
    return None


def _differs(manifest: Obj, live: Obj | None) -> str | None:
    """Why the object must be applied; None when it is as it should be."""
    if live is None:
        return "it does not exist"
    if (path := drift(manifest, live)) is None:
        return None
    before = annotations_of(live).get(APPLIED_ANNOTATION)
    changed = before != annotations_of(manifest)[APPLIED_ANNOTATION]
    return "it should be different" if changed else f"{path} was changed"


def _worker(seen: Observed) -> Worker:
    """A running backend keeps the image that its pods wait for their model with: an upgrade restarts nothing."""
    for container in (template(seen.workload).get("spec") or {}).get("initContainers") or ():
        if container.get("image"):
            return Worker(container["image"], seen.settings.image_pull_policy)
    return Worker(seen.settings.image, seen.settings.image_pull_policy)


def _fills(seen: Observed, store: AnyStore | None, worker: Worker) -> list[Obj]:
    """What each pod does for its models before its engine starts; nothing where Jobs do it."""
    match store:
        case OwnStore():
            return own_pulls.containers(seen.backend.spec.served, seen.settings, worker)
        case ImageStore():
            return image_looks.containers(seen.backend.spec.served, worker)
        case _:
            return []
