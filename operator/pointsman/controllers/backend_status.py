"""What the status of a backend says: observed + plan → status. Pure.

Decided here: each condition, and which of many causes stands in `Ready`: what somebody must mend, then what a pod says,
then pulls, then the rollout, then what gateways say of its health. `Ready` is True only when all of this generation is
carried out.
"""

from __future__ import annotations

from dataclasses import dataclass

from pointsman.api.backend_status import HealthStatus, LLMBackendStatus, ModelStatus
from pointsman.api.conditions import BackendCondition, Condition, ConditionStatus, Reason
from pointsman.controllers import image_status, own_pull_status
from pointsman.controllers.causes import ENDS, Cause, pod_cause, refused_pod, root_cause
from pointsman.controllers.children import selector_text
from pointsman.controllers.conditions import Conditions, Verdict, timestamp, unix
from pointsman.controllers.fits import fits, with_figures
from pointsman.controllers.model_status import ModelView, models_pulled, summary, view
from pointsman.controllers.observed import Observed, Problem
from pointsman.controllers.plan_backend import Plan
from pointsman.controllers.workload import is_group, progress
from pointsman.domain.folding import told_latency
from pointsman.engines.base import PROGRESS_MARGIN, startup_seconds
from pointsman.engines.drivers import DRIVERS
from pointsman.engines.stores import ImageStore, OwnStore
from pointsman.kube.resources import name_of, uid_of

_C = BackendCondition


@dataclass(frozen=True)
class _Judged:
    pulled: Verdict
    available: Verdict
    healthy: Verdict
    ready: Verdict
    stalled: Verdict


def status(seen: Observed, plan: Plan) -> LLMBackendStatus:
    """`plan`: of the same view; what it still wants to do is not done."""
    backend = seen.backend
    old = backend.status
    driver = DRIVERS[backend.spec.engine]
    views = _views(seen, plan) if driver.runs_pods else ()
    judged = _judge(seen, plan, views)
    models = with_figures(views, seen) or _served(seen)
    conditions = Conditions(old.conditions, backend.meta.generation, seen.now)
    conditions.set(_C.READY, judged.ready)
    conditions.set(_C.RECONCILING, _reconciling(seen, judged))
    conditions.set(_C.STALLED, judged.stalled)
    conditions.set(_C.MODELS_PULLED, judged.pulled)
    conditions.set(_C.AVAILABLE, judged.available)
    conditions.set(_C.HEALTHY, judged.healthy)
    conditions.set(_C.FITS, fits(seen, models))
    image, source = seen.image() if driver.runs_pods else ("", "")
    done = progress(seen.workload, seen.pods)
    return LLMBackendStatus(
        observed_generation=backend.meta.generation,
        conditions=conditions.result(),
        replicas=done.replicas,
        ready_replicas=done.ready,
        selector=selector_text(backend.meta.name) if driver.runs_pods else "",
        image=image,
        image_source=source,
        models=models,
        models_summary=summary(models),
        health=_health(seen, old.health),
        autoscaling=seen.scale.status if seen.scale is not None else None,
        last_handled_reconcile_at=old.last_handled_reconcile_at if _waits(seen, plan) else seen.asked(),
    )


def _waits(seen: Observed, plan: Plan) -> bool:
    """True when the plan was not to be carried out, or not yet."""
    waits = plan.asked_later or bool(plan.wait)
    return seen.backend.spec.suspend or plan.problem is not None or seen.refused is not None or waits


def _served(seen: Observed) -> tuple[ModelStatus, ...]:
    """Models of an External are there already; those of a backend that cannot be read keep their state."""
    if not DRIVERS[seen.backend.spec.engine].runs_pods:
        return tuple(ModelStatus(name=m.name, state="Served", progress="served") for m in seen.backend.spec.models)
    known = {m.name: m for m in seen.backend.status.models}
    return tuple(known.get(m.name) or ModelStatus(name=m.name, source=m.source or "") for m in seen.backend.spec.served)


def _views(seen: Observed, plan: Plan) -> tuple[ModelView, ...]:
    if isinstance(plan.store, OwnStore):
        return own_pull_status.views(seen)
    if isinstance(plan.store, ImageStore):
        return image_status.views(seen)
    out = []
    served = {m.name for m in seen.backend.spec.served}
    for pull in plan.pulls:
        if pull.model.name not in served:
            continue  # only pods that might start anew still need it
        trouble = ""
        for pod in seen.pull_pods.get(pull.name, ()):
            if (cause := pod_cause(pod, seen.claim, seen.events)) is not None and cause.reason is not Reason.CRASH_LOOP:
                trouble = cause.message
        if not trouble and pull.job is not None and not seen.pull_pods.get(pull.name):
            trouble = refused_pod(seen.events.get(uid_of(pull.job), ()))
        out.append(view(pull, seen.progress.get(pull.name), trouble, seen.now))
    return tuple(out)


def _judge(seen: Observed, plan: Plan, views: tuple[ModelView, ...]) -> _Judged:
    if not DRIVERS[seen.backend.spec.engine].runs_pods:
        return _judge_external(seen)
    problem = plan.problem or seen.refused
    cause = root_cause(seen.workload, seen.claim, seen.pods, seen.events, seen.gpus) or _last_words(seen)
    pulled = models_pulled(views) if views else Verdict(False, Reason.WAITING_FOR_POD, _why(problem, plan))
    available = _available(seen, cause)
    healthy = _healthy(seen)
    ready = _ready(seen, plan, problem, cause, pulled, available, healthy)
    return _Judged(pulled, available, healthy, ready, _stalled(seen, problem, cause, views))


def _why(problem: Problem | None, plan: Plan) -> str:
    return problem.message if problem else plan.wait


def _judge_external(seen: Observed) -> _Judged:
    healthy = _healthy(seen)
    none = Verdict(False, Reason.NOT_STALLED)
    pulled = Verdict(True, Reason.NOTHING_TO_PULL)
    available = Verdict(True, Reason.NOT_OURS_TO_RUN)
    if seen.missing is not None:
        reason, message = seen.missing.reason, seen.missing.message
        return _Judged(pulled, available, healthy, Verdict(False, reason, message), Verdict(True, reason, message))
    ready = Verdict(True, Reason.READY) if healthy.holds else healthy
    return _Judged(pulled, available, healthy, ready, none)


def _available(seen: Observed, cause: Cause | None) -> Verdict:
    if progress(seen.workload, seen.pods).available:
        return Verdict(True, Reason.AVAILABLE)
    if not seen.replicas:
        return Verdict(False, Reason.SCALED_TO_ZERO, _none(seen))
    if cause is not None:
        return Verdict(False, cause.reason, cause.message)
    return Verdict(False, Reason.STARTING, "no pod is ready yet")


def _healthy(seen: Observed) -> Verdict:
    health = seen.health
    if DRIVERS[seen.backend.spec.engine].runs_pods and not seen.replicas:
        return Verdict(None, Reason.SCALED_TO_ZERO, _none(seen))
    if health.up is None:
        return Verdict(None, Reason.NO_REPORT, "no gateway has reported on this generation")
    if health.up:
        return Verdict(True, Reason.ANSWERING, health.message)
    return Verdict(False, Reason.UNHEALTHY, health.message or "the gateways get no answer from it")


def _ready(
    seen: Observed,
    plan: Plan,
    problem: Problem | None,
    cause: Cause | None,
    pulled: Verdict,
    available: Verdict,
    healthy: Verdict,
) -> Verdict:
    if problem is not None:
        return Verdict(False, problem.reason, problem.message)
    if plan.steps and seen.backend.spec.suspend:
        return Verdict(False, Reason.SUSPENDED, "changes wait: spec.suspend is true")
    if plan.wait or plan.steps:
        return Verdict(False, Reason.PROGRESSING, plan.wait or "changes are being applied")
    if pulled.reason in (Reason.NOT_A_MODEL, Reason.SECRET_MISSING):  # pods say the same in other words, or later
        return Verdict(False, pulled.reason, pulled.message)
    if cause is not None and seen.replicas:
        return Verdict(False, cause.reason, cause.message)
    if pulled.holds is not True:
        return Verdict(False, pulled.reason, pulled.message)
    if seen.unloaded:
        return Verdict(False, Reason.ADAPTER_NOT_LOADED, seen.unloaded)
    if (rolling := _rolling(seen)) is not None:
        return Verdict(False, Reason.PROGRESSING if available.holds else Reason.STARTING, rolling)
    if not seen.replicas:
        return Verdict(True, Reason.SCALED_TO_ZERO, f"models are pulled; {_none(seen)}")
    if healthy.holds is False:
        return Verdict(False, healthy.reason, healthy.message)
    return Verdict(True, Reason.READY)


def _none(seen: Observed) -> str:
    """Why there is no pod."""
    return "spec.replicas is 0" if seen.scale is None else "the next request starts a pod"


def _rolling(seen: Observed) -> str | None:
    """What is missing until the workload is all of what it should be; None when nothing is."""
    has, want = progress(seen.workload, seen.pods), seen.replicas
    pods = "groups of pods" if is_group(seen.workload) else "pods"
    if has.available and _only_scales(seen):
        return None
    if not has.current or seen.workload is None:
        return "the Deployment has just changed" if seen.workload else "no pod is ready yet"
    if is_group(seen.workload) and want and not has.replicas and not seen.workload.get("status"):
        return f"LeaderWorkerSet {name_of(seen.workload)} waits for its controller: does one run in the cluster?"
    if has.updated < want:
        return f"{has.updated} of {want} {pods} are of this generation"
    if has.replicas > want or has.replicas > has.updated:
        return f"old {pods} are still ending"
    if has.available < want:
        return f"{has.available} of {want} {pods} are ready"
    return None


def _only_scales(seen: Observed) -> bool:
    """It was ready with this spec, and the requests have given it another number: no news for who waits for it."""
    if seen.scale is None:
        return False
    said = _said(seen, _C.READY)
    generation = seen.backend.meta.generation
    return said is not None and said.status is ConditionStatus.TRUE and said.observed_generation == generation


def _reconciling(seen: Observed, judged: _Judged) -> Verdict:
    if seen.backend.spec.suspend:
        return Verdict(False, Reason.SUSPENDED, "spec.suspend is true")
    if judged.stalled.holds or judged.ready.holds:
        return Verdict(False, Reason.SETTLED)
    if judged.ready.reason in (Reason.UNHEALTHY, Reason.NO_REPORT):
        return Verdict(False, Reason.SETTLED)
    return Verdict(True, Reason.PROGRESSING, judged.ready.message)


def _stalled(seen: Observed, problem: Problem | None, cause: Cause | None, views: tuple[ModelView, ...]) -> Verdict:
    if problem is not None:
        return Verdict(True, problem.reason, problem.message)
    for model in views:
        if model.permanent and model.reason is not None:
            return Verdict(True, model.reason, f"model {model.status.name}: {model.status.message}")
    if cause is not None and seen.replicas and (cause.stuck or _overdue(seen)):
        return Verdict(True, cause.reason, cause.message)
    return Verdict(False, Reason.NOT_STALLED)


def _overdue(seen: Observed) -> bool:
    """Has it taken longer than a rollout may?"""
    if is_group(seen.workload):
        said, spec = _said(seen, _C.READY), seen.backend.spec
        allowed = startup_seconds(DRIVERS[spec.engine], spec) + PROGRESS_MARGIN
        return (
            said is not None
            and said.status is ConditionStatus.FALSE
            and (seen.now - unix(said.last_transition_time) > allowed)
        )
    conditions = ((seen.workload or {}).get("status") or {}).get("conditions") or ()
    return any(c.get("reason") == "ProgressDeadlineExceeded" for c in conditions)


def _last_words(seen: Observed) -> Cause | None:
    """What the last pods of a group said of their end: all of them are made anew then, and new ones know nothing."""
    said = _said(seen, _C.READY)
    if not is_group(seen.workload) or said is None or said.observed_generation != seen.backend.meta.generation:
        return None
    if said.reason not in ENDS or progress(seen.workload, seen.pods).available:
        return None
    return Cause(Reason(said.reason), said.message)


def _said(seen: Observed, kind: BackendCondition) -> Condition | None:
    """The condition as the status has it."""
    return next((c for c in seen.backend.status.conditions if c.type == kind), None)


def _health(seen: Observed, old: HealthStatus) -> HealthStatus:
    health = seen.health
    if health.up is None:
        return HealthStatus()
    since = timestamp(health.since) if health.since else ""
    if old.state == health.state and old.since:
        since = old.since
    return HealthStatus(
        state=health.state,
        reason=health.reason,
        message=health.message[:512],
        since=since,
        latency_ms=told_latency(health.latency_ms, old.latency_ms),
    )
