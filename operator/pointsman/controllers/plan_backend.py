"""What is to be done for a backend: observed → plan. Pure: the same view gives the same plan, and the plan of what was
carried out is empty.

Decided here: which children are written, which pulls are started, started again or ended, and what must be mended by
somebody first. Not here: what children look like (`children.py`, `pull_job.py`), what the status says of it all
(`backend_status.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from pointsman.api.backend_status import ModelStatus
from pointsman.api.conditions import Reason
from pointsman.api.model import Model, Refresh
from pointsman.api.objects import LLMBackend
from pointsman.api.sources.error import SourceError
from pointsman.api.sources.source import parse_source
from pointsman.controllers import adapters, children, image_looks, own_pulls, pull_job
from pointsman.controllers.conditions import unix
from pointsman.controllers.drift import APPLIED_ANNOTATION, drift
from pointsman.controllers.loaded import Loaded, loaded
from pointsman.controllers.observed import Observed, Problem
from pointsman.controllers.ownership import Whose, owner_reference, whose
from pointsman.controllers.pull_job import JobEnd
from pointsman.controllers.workload import template
from pointsman.engines import loadable
from pointsman.engines.base import Worker
from pointsman.engines.drivers import DRIVERS
from pointsman.engines.stores import AnyStore, ImageStore, OwnStore, Store
from pointsman.kube.resources import Obj, annotations_of, is_deleting, name_of, owner_uids, uid_of
from pointsman.models.outcome import PullOutcome

PREDECESSOR_SECONDS = 2.0
"""How soon to look again for the children of a deleted backend of the same name."""
LOOK = "it is time to look for a change"
ASKED = "asked for"
"""Why a pull is made anew."""
KIND_SECONDS = 10.0
"""How soon to look again for a kind that the cluster has not got."""
CLAIM_SECONDS = 30.0
"""How soon to look again for a claim or a foreign object: neither is watched."""


@dataclass(frozen=True)
class Apply:
    manifest: Obj
    live: Obj | None
    """What is there, ours; None: it must not be there."""
    why: str


@dataclass(frozen=True)
class Delete:
    live: Obj
    why: str


@dataclass(frozen=True)
class SetOwners:
    """Owners of a shared pull Job; a Job is never applied twice."""

    live: Obj
    owners: tuple[Obj, ...]
    why: str


Step = Apply | Delete | SetOwners


@dataclass(frozen=True)
class Pull:
    """How far one model's pull is, before reports are looked at."""

    model: Model
    name: str
    """The Job's."""
    job: Obj | None = None
    end: JobEnd | None = None
    known: ModelStatus | None = None
    """The status of an earlier success of this very pull."""
    waiting: str = ""
    """What it waits for before it can start."""
    missing: str = ""
    """What somebody must make before it can start, in a sentence."""
    unfit: str = ""
    """Why the engine cannot load what came, in a sentence."""


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


@dataclass
class _Draft:
    steps: list[Step] = field(default_factory=list)
    again: list[float] = field(default_factory=list)
    asked_later: bool = False


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
    draft = _Draft()
    image, _ = seen.image()
    wanted = [(children.service(backend, driver), seen.service)]
    if isinstance(store, Store) and not existing:
        wanted.append((children.claim(backend, seen.claim), seen.claim))
    worker = _worker(seen)
    pulling = _Draft()
    pulls = _pulls(seen, store, pulling)
    have = loaded(seen.workload, _contents(pulls)) if driver.reads_files else Loaded()
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
    _prune(seen, {p.name for p in pulls}, pulling)
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


def _pulls(seen: Observed, store: AnyStore | None, draft: _Draft) -> tuple[Pull, ...]:
    """Those that Jobs make; pods with a store of their own fill it themselves (`_fills`)."""
    models = adapters.needed(seen.backend, seen.workload).spec.served
    if isinstance(store, OwnStore | ImageStore):
        return ()
    if store is None:
        return tuple(Pull(m, "") for m in models)
    if seen.claim is None or not uid_of(seen.claim):
        return tuple(Pull(m, "", waiting="the volume is not there yet") for m in models)
    pulls: dict[str, Pull] = {}
    out = []
    for model in models:
        if not model.source:
            out.append(Pull(model, ""))
            continue
        name = pull_job.job_name(model, uid_of(seen.claim))
        if name not in pulls:
            pulls[name] = _pull(seen, store, model, name, draft)
        pull = replace(pulls[name], model=model)
        came = pull.end.outcome if pull.end is not None and pull.end.complete else None
        out.append(replace(pull, unfit=unfit(seen.backend, model, came)))
    return tuple(out)


def unfit(backend: LLMBackend, model: Model, came: PullOutcome | None) -> str:
    """Why the backend's engine cannot load what a pull brought, in a sentence; empty when it can. `came`: how the pull
    ended, if it did and well."""
    if came is None:
        return ""
    wanted = DRIVERS[backend.spec.engine].loads
    if wanted and model.name not in {m.name for m in backend.spec.models}:
        wanted = loadable.ADAPTER
    return loadable.unfit(wanted, model, came.formats)


def _pull(seen: Observed, store: Store, model: Model, name: str, draft: _Draft) -> Pull:
    backend = seen.backend
    live = seen.jobs.get(name)
    known = next((m for m in backend.status.models if m.pull == name and m.state == "Pulled" and m.digest), None)
    again = bool(seen.asked()) and seen.asked() != backend.status.last_handled_reconcile_at
    if live is not None and annotations_of(live).get(pull_job.ASKED_ANNOTATION) == seen.asked():
        again = False  # it was made for that
    pull = Pull(model, name, live, known=known)
    if live is None:
        if known is None:
            return _start(seen, store, pull, 0, "the model is not there", draft)
        if again or _due(seen, model, unix(known.checked_at), draft):
            return _start(seen, store, pull, 0, ASKED if again else LOOK, draft)
        return pull
    if is_deleting(live):
        draft.again.append(PREDECESSOR_SECONDS)
        return pull
    if backend.meta.uid not in owner_uids(live):
        owners = (*(live["metadata"].get("ownerReferences") or ()), dict(owner_reference(backend, controller=False)))
        draft.steps.append(SetOwners(live, owners, "this backend needs it too"))
    end = pull_job.job_end(live, seen.pull_pods.get(name, ()))
    pull = replace(pull, end=end)
    if end is None:
        draft.asked_later = draft.asked_later or again  # who asked may have mended what this one fails of
        return pull
    if end.complete:
        if again:
            return _restart(seen, store, pull, 0, ASKED, draft)
        if end.outcome is None and known is None:
            return _restart(seen, store, pull, 0, "its result is lost", draft)
        if _due(seen, model, end.at, draft):
            return _restart(seen, store, pull, 0, LOOK, draft)
        return pull
    if again:
        return _restart(seen, store, pull, 0, ASKED, draft)
    if (secret := _secret(seen, model)) and annotations_of(live).get(pull_job.SECRET_ANNOTATION) != secret:
        return _restart(seen, store, pull, 0, "its Secret is another now", draft)
    if not end.permanent:
        if seen.now >= end.again_at:
            return _restart(seen, store, pull, end.round + 1, "it is time to try again", draft)
        draft.again.append(end.again_at - seen.now)
    return pull


def _contents(pulls: tuple[Pull, ...]) -> dict[str, str]:
    """The digest that each pull has brought; empty while it is under way."""
    out = {}
    for pull in pulls:
        if not pull.name:
            continue
        out[pull.name] = ""
        if pull.end is not None and pull.end.complete and pull.end.outcome is not None:
            out[pull.name] = pull.end.outcome.digest
        elif pull.known is not None:
            out[pull.name] = pull.known.digest
    return out


def _due(seen: Observed, model: Model, last: float, draft: _Draft) -> bool:
    """Is it time to ask the source whether it has another model by now? `last`: Unix seconds."""
    if model.refresh is Refresh.NEVER:
        return False
    left = last + seen.settings.refresh_seconds - seen.now
    if left > 0:
        draft.again.append(left)
    return left <= 0


def _secret(seen: Observed, model: Model) -> str | None:
    """Which object and version the model's Secret is; empty for a model without one, None when it does not exist."""
    return "" if model.secret_ref is None else seen.secrets.get(model.secret_ref.name, "")


def missing_secret(seen: Observed, model: Model) -> str:
    """What somebody must make before the model can be pulled, in a sentence; empty when nothing is missing."""
    if model.secret_ref is None or _secret(seen, model) is not None:
        return ""
    return f"Secret {model.secret_ref.name} does not exist: create it, its pull needs it"


def _restart(seen: Observed, store: Store, pull: Pull, round_: int, why: str, draft: _Draft) -> Pull:
    assert pull.job is not None
    if missing_secret(seen, pull.model):
        return pull  # it would only wait
    draft.steps.append(Delete(pull.job, why))
    return _start(seen, store, replace(pull, job=None, end=None), round_, why, draft)


def _start(seen: Observed, store: Store, pull: Pull, round_: int, why: str, draft: _Draft) -> Pull:
    model = pull.model
    if missing := missing_secret(seen, model):
        return replace(pull, missing=missing)
    if store.one_node and seen.replicas and not any(_scheduled(p) for p in seen.pods):
        # The server is harder to place than the pull: it chooses the node, and with it the volume's place.
        return replace(pull, waiting="the server's pod has no node yet, and the volume follows it")
    verify = why == ASKED  # somebody has a reason to ask: then nothing that lies there is taken for granted
    secret, asked = _secret(seen, model) or "", seen.asked() if why == ASKED else ""
    manifest = pull_job.job(
        seen.backend, model, pull.name, store, seen.settings, round_, verify=verify, secret=secret, asked=asked
    )
    draft.steps.append(Apply(manifest, None, why))
    return pull


def _scheduled(pod: Obj) -> bool:
    return bool((pod.get("spec") or {}).get("nodeName")) and not is_deleting(pod)


def _prune(seen: Observed, wanted: set[str], draft: _Draft) -> None:
    """Pulls that this backend no longer needs: others may."""
    uid = seen.backend.meta.uid
    if seen.claim is None:
        return
    for name, live in sorted(seen.jobs.items()):
        if name in wanted or uid not in owner_uids(live) or is_deleting(live):
            continue
        others = tuple(o for o in live["metadata"]["ownerReferences"] if o.get("uid") != uid)
        if others:
            draft.steps.append(SetOwners(live, others, "this backend no longer needs it"))
        else:
            draft.steps.append(Delete(live, "no backend needs it"))
