"""Which pulls are started, started again or ended, and how far each is: observed → steps. Pure.

What a pull's Job looks like is `pull_job.py`'s; what the status says of it is `model_status.py`'s.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pointsman.api.backend_status import ModelStatus
from pointsman.api.model import Model, Refresh
from pointsman.api.objects import LLMBackend
from pointsman.controllers import adapters, pull_job
from pointsman.controllers.conditions import unix
from pointsman.controllers.observed import Observed
from pointsman.controllers.ownership import owner_reference
from pointsman.controllers.pull_job import JobEnd
from pointsman.controllers.steps import PREDECESSOR_SECONDS, Apply, Delete, Draft, SetOwners
from pointsman.engines import loadable
from pointsman.engines.drivers import DRIVERS
from pointsman.engines.stores import AnyStore, ImageStore, OwnStore, Store
from pointsman.kube.resources import Obj, annotations_of, is_deleting, owner_uids, uid_of
from pointsman.models.outcome import PullOutcome

LOOK = "it is time to look for a change"
ASKED = "asked for"
"""Why a pull is made anew."""


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


def pulls(seen: Observed, store: AnyStore | None, draft: Draft) -> tuple[Pull, ...]:
    """Those that Jobs make; pods with a store of their own fill it themselves (`plan_backend.py`)."""
    models = adapters.needed(seen.backend, seen.workload).spec.served
    if isinstance(store, OwnStore | ImageStore):
        return ()
    if store is None:
        return tuple(Pull(m, "") for m in models)
    if seen.claim is None or not uid_of(seen.claim):
        return tuple(Pull(m, "", waiting="the volume is not there yet") for m in models)
    by_name: dict[str, Pull] = {}
    out = []
    for model in models:
        if not model.source:
            out.append(Pull(model, ""))
            continue
        name = pull_job.job_name(model, uid_of(seen.claim))
        if name not in by_name:
            by_name[name] = _pull(seen, store, model, name, draft)
        pull = replace(by_name[name], model=model)
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


def _pull(seen: Observed, store: Store, model: Model, name: str, draft: Draft) -> Pull:
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


def contents(pulls: tuple[Pull, ...]) -> dict[str, str]:
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


def _due(seen: Observed, model: Model, last: float, draft: Draft) -> bool:
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


def _restart(seen: Observed, store: Store, pull: Pull, round_: int, why: str, draft: Draft) -> Pull:
    assert pull.job is not None
    if missing_secret(seen, pull.model):
        return pull  # it would only wait
    draft.steps.append(Delete(pull.job, why))
    return _start(seen, store, replace(pull, job=None, end=None), round_, why, draft)


def _start(seen: Observed, store: Store, pull: Pull, round_: int, why: str, draft: Draft) -> Pull:
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


def prune(seen: Observed, wanted: set[str], draft: Draft) -> None:
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
