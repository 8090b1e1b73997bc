"""How far each model is that every pod pulls for itself: the pods' statuses and reports → `status.models`. Pure."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from pointsman.api.model import Model
from pointsman.controllers.model_status import ModelView, failed, pulled, pulling, waiting, without_secret
from pointsman.controllers.observed import Observed
from pointsman.controllers.own_pulls import PREFIX, statuses
from pointsman.controllers.plan_pulls import missing_secret, unfit
from pointsman.controllers.workload import replicas
from pointsman.kube.resources import Obj, uid_of
from pointsman.models.errors import PullReason
from pointsman.models.outcome import PullOutcome, decode_outcome


def views(seen: Observed) -> tuple[ModelView, ...]:
    """A model is pulled when a pod has it and no other fails to: one that is added takes nothing back."""
    return tuple(_view(seen, model, f"{PREFIX}{i}") for i, model in enumerate(seen.backend.spec.served))


def _view(seen: Observed, model: Model, name: str) -> ModelView:
    base = {"name": model.name, "source": model.source or ""}
    if not model.source:
        return waiting(base, "Served", "served")
    if replicas(seen.workload) == 0:
        return waiting(base, "Served", "pulled by each pod")
    done: list[PullOutcome] = []
    others: list[ModelView] = []
    for pod in seen.pods:
        status = next((s for s in statuses(pod) if s.get("name") == name), None)
        if status is None:
            continue
        left = outcome(status)
        if left is not None and left.state == "Pulled":
            done.append(left)
        elif (view := _under_way(seen, pod, model, status, left)) is not None:
            others.append(view)
    if not done and (missing := missing_secret(seen, model)):
        return without_secret(base, missing)
    if trouble := next((v for v in others if v.reason is not None), None):
        return trouble
    if done and (sentence := unfit(seen.backend, model, done[-1])):
        return failed(base, PullReason.NOT_A_MODEL, sentence, permanent=True)
    if done:
        last, behind = done[-1], len(seen.pods) - len(done)
        message = f"{behind} of {len(seen.pods)} pods still pull it" if behind else ""
        return replace(pulled(base, last.digest, last.total_bytes, message=message), figures=last.figures)
    if others:
        return others[0]
    return waiting(base, "Pending", "waiting", "each pod pulls its own before its engine starts, and none has begun")


def _under_way(seen: Observed, pod: Obj, model: Model, status: Obj, left: PullOutcome | None) -> ModelView | None:
    """How far one pod is; None when it has not begun. `left`: by its last run."""
    base = {"name": model.name, "source": model.source or ""}
    runs = "running" in (status.get("state") or {})
    report = seen.reports.get(uid_of(pod))
    if runs and report is not None and report.source == model.source and report.progress.state != "Failed":
        return pulling(base, report.progress)
    if left is not None:
        return failed(base, left.reason, f"{left.message} (trying again)", permanent=left.permanent)
    return pulling(base, None) if runs else None


def outcome(status: Obj) -> PullOutcome | None:
    """What the last run of a container left."""
    for state in ("state", "lastState"):
        ended = (status.get(state) or {}).get("terminated") or {}
        try:
            return decode_outcome(ended.get("message") or "")
        except msgspec.DecodeError:
            continue
    return None
