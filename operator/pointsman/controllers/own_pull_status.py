"""How far each model is that every pod pulls for itself: the pods' statuses and reports → `status.models`. Pure."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from pointsman.api.model import Model
from pointsman.controllers.model_status import ModelView, failed, pulled, pulling, waiting
from pointsman.controllers.observed import Observed
from pointsman.controllers.own_pulls import PREFIX, statuses
from pointsman.kube.resources import Obj, uid_of
from pointsman.models.outcome import PullOutcome, decode_outcome


def views(seen: Observed) -> tuple[ModelView, ...]:
    """A model is pulled when every pod that there is has it."""
    return tuple(_view(seen, model, f"{PREFIX}{i}") for i, model in enumerate(seen.backend.spec.served))


def _view(seen: Observed, model: Model, name: str) -> ModelView:
    base = {"name": model.name, "source": model.source or ""}
    if not model.source:
        return waiting(base, "Served", "served")
    if ((seen.deployment or {}).get("spec") or {}).get("replicas") == 0:
        return waiting(base, "Served", "pulled by each pod")
    done: list[PullOutcome] = []
    for pod in seen.pods:
        status = next((s for s in statuses(pod) if s.get("name") == name), None)
        if status is None:
            continue
        outcome = _outcome(status)
        if outcome is not None and outcome.state == "Pulled":
            done.append(outcome)
            continue
        runs = "running" in (status.get("state") or {})
        report = seen.reports.get(uid_of(pod))
        if runs and report is not None and report.source == model.source and report.progress.state != "Failed":
            return pulling(base, report.progress)
        if outcome is not None:
            return failed(base, outcome.reason, f"{outcome.message} (trying again)", permanent=outcome.permanent)
        if runs:
            return pulling(base, None)
    if done and len(done) == len(seen.pods):
        return replace(pulled(base, done[-1].digest, done[-1].total_bytes), figures=done[-1].figures)
    return waiting(base, "Pending", "waiting", "each pod pulls its own before its engine starts, and none has begun")


def _outcome(status: Obj) -> PullOutcome | None:
    """What its last run left."""
    for state in ("state", "lastState"):
        ended = (status.get(state) or {}).get("terminated") or {}
        try:
            return decode_outcome(ended.get("message") or "")
        except msgspec.DecodeError:
            continue
    return None
