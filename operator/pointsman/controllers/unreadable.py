"""The status of an object that this operator cannot read (a newer release knows more fields, say). Pure."""

from __future__ import annotations

from pydantic import ValidationError

from pointsman.api.backend_status import LLMBackendStatus
from pointsman.api.conditions import BackendCondition, Reason, RouteCondition
from pointsman.api.objects import sentence
from pointsman.api.route import ModelRouteStatus
from pointsman.controllers.conditions import Conditions, Verdict
from pointsman.kube.resources import Obj


def backend(body: Obj, error: ValidationError, now: float) -> tuple[LLMBackendStatus, LLMBackendStatus]:
    """The status that is there and the one that should be; all but the conditions stays."""
    old = LLMBackendStatus.model_validate(body.get("status") or {})
    conditions = _conditions(body, old, error, now, BackendCondition)
    return old, old.model_copy(update={"conditions": conditions.result(), "observed_generation": _generation(body)})


def route(body: Obj, error: ValidationError, now: float) -> tuple[ModelRouteStatus, ModelRouteStatus]:
    """The status that is there and the one that should be; all but the conditions stays."""
    old = ModelRouteStatus.model_validate(body.get("status") or {})
    conditions = _conditions(body, old, error, now, RouteCondition)
    return old, old.model_copy(update={"conditions": conditions.result(), "observed_generation": _generation(body)})


def _conditions(
    body: Obj,
    old: LLMBackendStatus | ModelRouteStatus,
    error: ValidationError,
    now: float,
    kinds: type[BackendCondition] | type[RouteCondition],
) -> Conditions:
    out = Conditions(old.conditions, _generation(body), now)
    message = sentence(error)
    for kind in kinds:
        holds = {"Ready": False, "Reconciling": False, "Stalled": True}.get(kind.value)
        out.set(kind, Verdict(holds, Reason.INVALID_SPEC, message))
    return out


def _generation(body: Obj) -> int:
    return int(body["metadata"].get("generation") or 0)
