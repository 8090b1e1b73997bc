"""How far each model is that is an image: what nodes and the containers that look at it say → `status.models`. Pure.

A node tells neither bytes nor speed of what it pulls, nor the digest of what a tag was: the size is known when the
container has looked, the digest when the spec pins it.
"""

from __future__ import annotations

from dataclasses import replace

from pointsman.api.model import Model
from pointsman.controllers.image_causes import references, trouble
from pointsman.controllers.image_looks import PREFIX
from pointsman.controllers.model_status import ModelView, failed, pulled, pulling, waiting
from pointsman.controllers.observed import Observed
from pointsman.controllers.own_pull_status import outcome
from pointsman.controllers.plan_pulls import unfit
from pointsman.controllers.workload import replicas
from pointsman.engines.attached import image_reference
from pointsman.models.errors import PullReason
from pointsman.models.outcome import PullOutcome


def views(seen: Observed) -> tuple[ModelView, ...]:
    """A model is there when a pod has found it and no other fails to."""
    return tuple(_view(seen, model, f"{PREFIX}{i}") for i, model in enumerate(seen.backend.spec.served))


def _view(seen: Observed, model: Model, name: str) -> ModelView:
    base = {"name": model.name, "source": model.source or ""}
    if replicas(seen.workload) == 0:
        return waiting(base, "Served", "kept by the nodes")
    done: list[PullOutcome] = []
    others: list[ModelView] = []
    for pod in seen.pods:
        statuses = (pod.get("status") or {}).get("initContainerStatuses") or ()
        status = next((s for s in statuses if s.get("name") == name), None)
        # Of another template's pod: it has another image of this model, or none.
        if status is None or image_reference(model) not in references(pod):
            continue
        found = outcome(status)
        if found is not None and found.state == "Pulled":
            done.append(found)
        elif (why := trouble(status, references(pod))) is not None:
            others.append(failed(base, why.reason, f"{why.sentence} (trying again)"))
        elif found is not None:
            others.append(failed(base, found.reason, f"{found.message} (trying again)", permanent=found.permanent))
        else:
            view = pulling(base, None)
            others.append(replace(view, status=view.status.model_copy(update={"progress": "by the node"})))
    if wrong := next((v for v in others if v.reason is not None), None):
        return wrong
    if done and (sentence := unfit(seen.backend, model, done[-1])):
        return failed(base, PullReason.NOT_A_MODEL, sentence, permanent=True)
    if done:
        return replace(pulled(base, done[-1].digest, done[-1].total_bytes), figures=done[-1].figures)
    if others:
        return others[0]
    return waiting(base, "Pending", "waiting", "the pod's node pulls it, and no pod has one yet")
