"""The number of pods of backends with `spec.autoscaling`: reports, pods and the live workload → one number.

Decided here: what a number starts from, when a report is worth a visit, and when the status tells of activity. Not
here: the number itself (`domain/scaling.py`), and who writes it: the plan does, nobody else.

What must outlive the operator is in the cluster: the number in the workload, the last activity in the status. The
windows begin anew with a new operator, which takes no pod away before it has seen a whole one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pointsman.api.autoscaling import Autoscaling
from pointsman.api.backend_status import AutoscalingStatus
from pointsman.api.conditions import BackendCondition, ConditionStatus
from pointsman.api.objects import LLMBackend
from pointsman.api.scalars import seconds
from pointsman.controllers.conditions import timestamp, unix
from pointsman.controllers.context import Context
from pointsman.controllers.readiness import condition, is_ready
from pointsman.domain.report import GatewayReport
from pointsman.domain.scaling import NEVER, Decision, Load, Policy, Scaler
from pointsman.kube.resources import Obj, uid_of

ACTIVITY_SECONDS = 60.0
"""While there are requests the status tells of them this often."""
QUIET_SECONDS = 10.0
"""So long after the last one it says when that was."""


@dataclass(frozen=True)
class Scale:
    """What a visit goes by."""

    replicas: int
    status: AutoscalingStatus
    again: float | None = None
    """Seconds until it may be different without any news."""


@dataclass
class _Kept:
    uid: str
    policy: Policy
    scaler: Scaler
    told: float
    """The last activity that the status tells of; Unix seconds."""
    changed_at: str
    why: str


class Scaling:
    """One scaler for each backend with `spec.autoscaling`."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._kept: dict[str, dict[str, _Kept]] = defaultdict(dict)
        """Namespace → backend."""

    def judge(self, backend: LLMBackend, live: int | None, pods: Iterable[Obj]) -> Scale | None:
        """The number for now; None when `spec.replicas` is it. `live`: what the workload was told last; `pods`: those
        that serve."""
        namespace, name = backend.meta.namespace, backend.meta.name
        if backend.spec.autoscaling is None:
            self.forget(namespace, name)
            return None
        policy = policy_of(backend.spec.autoscaling)
        kept = self._kept[namespace].get(name)
        if kept is None or kept.uid != backend.meta.uid:
            kept = self._kept[namespace][name] = _begin(backend, policy, live)
        kept.policy = policy
        scaler = kept.scaler
        if backend.spec.suspend and live is not None:
            scaler.replicas = live  # nothing is carried out: the number is what it is
        scaler.warm_since = _warm_since(backend, pods)
        now = self._context.clock()
        decision = _decide(kept, self._context.reports.load(name, *self._gateways(namespace)), now)
        if decision.replicas != scaler.replicas and not backend.spec.suspend:
            scaler.replicas = decision.replicas
            kept.why, kept.changed_at = decision.why, timestamp(now)
        shown = _activity(kept, now)
        again = decision.again
        if scaler.active_at - shown >= 1:
            again = QUIET_SECONDS if again is None else min(again, QUIET_SECONDS)
        kept.told = shown
        told = AutoscalingStatus(
            replicas=scaler.replicas,
            last_activity_time=timestamp(shown) if shown != NEVER else "",
            last_scale_time=kept.changed_at,
            message=kept.why,
        )
        return Scale(scaler.replicas, told, again)

    def heard(self, namespace: str, report: GatewayReport) -> Iterator[str]:
        """The backends that a gateway's report makes a visit worth while for; call for each report."""
        mine = self._kept.get(namespace)
        if not mine:
            return
        now, gateways = self._context.clock(), self._gateways(namespace)
        for health in report.backends:
            if (kept := mine.get(health.name)) is None:
                continue
            decision = _decide(kept, self._context.reports.load(health.name, *gateways), now)
            if decision.replicas != kept.scaler.replicas or _activity(kept, now) - kept.told >= 1:
                yield health.name

    def forget(self, namespace: str, name: str) -> None:
        """The backend is gone, or has no `spec.autoscaling`."""
        self._kept.get(namespace, {}).pop(name, None)

    def _gateways(self, namespace: str) -> tuple[list[str], list[str]]:
        """The UIDs of those that are ready, and of the others."""
        pods = self._context.all_gateway_pods(namespace)
        ready = [uid_of(p) for p in pods if is_ready(p)]
        return ready, [uid_of(p) for p in pods if not is_ready(p)]


def policy_of(spec: Autoscaling) -> Policy:
    return Policy(
        least=spec.min_replicas,
        most=spec.max_replicas,
        target=spec.target_in_flight,
        idle_after=spec.idle_seconds,
        up_window=seconds(spec.scale_up_window),
        down_window=seconds(spec.scale_down_window),
    )


def _begin(backend: LLMBackend, policy: Policy, live: int | None) -> _Kept:
    """What is there goes first, then what was there, then what the spec starts with."""
    old = backend.status.autoscaling
    start = live if live is not None else old.replicas if old is not None else backend.spec.replicas
    active_at = unix(old.last_activity_time) if old is not None and old.last_activity_time else NEVER
    changed_at, why = (old.last_scale_time, old.message) if old is not None else ("", "")
    scaler = Scaler(policy.clamp(start) if live is None else start, active_at)
    return _Kept(backend.meta.uid, policy, scaler, active_at, changed_at, why)


def _decide(kept: _Kept, load: Load, now: float) -> Decision:
    kept.scaler.observe(load, kept.policy, now)
    return kept.scaler.decide(kept.policy, now)


def _activity(kept: _Kept, now: float) -> float:
    """The last activity as the status should tell it; Unix seconds."""
    active = now if kept.scaler.load.requests else kept.scaler.active_at
    quiet = now - active >= QUIET_SECONDS
    return active if active - kept.told >= (1.0 if quiet else ACTIVITY_SECONDS) else kept.told


def _warm_since(backend: LLMBackend, pods: Iterable[Obj]) -> float | None:
    pulled = next((c for c in backend.status.conditions if c.type == BackendCondition.MODELS_PULLED), None)
    if pulled is None or pulled.status is not ConditionStatus.TRUE:
        return None
    since = [unix((condition(p, "Ready") or {}).get("lastTransitionTime") or "") for p in pods if is_ready(p)]
    return min(since, default=None)
