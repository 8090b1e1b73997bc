"""Objects as an API server would hold them, for pure decisions: a plan is carried out here in no time."""

from __future__ import annotations

import copy
import itertools
from dataclasses import replace
from typing import Any

from pointsman.api.objects import LLMBackend
from pointsman.controllers.observed import Observed
from pointsman.controllers.plan_backend import Plan, plan
from pointsman.controllers.settings import Settings
from pointsman.controllers.steps import Apply, Delete, SetOwners
from pointsman.kube.resources import Obj, name_of

SETTINGS = Settings.model_validate(
    {"image": "example.test/pointsman:1", "engines": {"ollama": {"image": "example.test/ollama:1"}}}
)
NOW = 1_800_000_000.0
_numbers = itertools.count(1)


def backend(spec: dict[str, Any] | None = None, status: dict[str, Any] | None = None, **meta: Any) -> LLMBackend:
    """An LLMBackend `b`; Ollama with one model unless the spec says otherwise."""
    whole: dict[str, Any] = {"engine": "Ollama", "models": [{"name": "m", "source": "ollama://tiny:1"}]}
    whole |= spec or {}
    metadata = {"name": "b", "namespace": "ns", "uid": "uid-b", "generation": 1, **meta}
    return LLMBackend.parse({"metadata": metadata, "spec": whole, "status": status or {}})


def observed(of: LLMBackend | None = None, **seen: Any) -> Observed:
    return Observed(backend=of or backend(), settings=SETTINGS, now=NOW, **seen)


def pod(name: str = "p", node: str | None = "node", ready: bool = True, **status: Any) -> Obj:
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    return {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "ns", "uid": f"uid-{name}"},
        "spec": {"nodeName": node} if node else {},
        "status": {"phase": "Running", "conditions": conditions, **status},
    }  # fmt: skip


def carried_out(seen: Observed, todo: Plan) -> Observed:
    """The view after the plan's steps, with what an API server fills in."""
    jobs = dict(seen.jobs)
    changes: dict[str, Any] = {}
    for step in todo.steps:
        match step:
            case Apply(manifest, live):
                obj = _filled(manifest, live)
                match obj["kind"]:
                    case "Job":
                        jobs[name_of(obj)] = obj
                    case "Service":
                        changes["service"] = obj
                    case "PersistentVolumeClaim":
                        changes["claim"] = obj
                    case _:
                        changes["workload"] = obj
            case Delete(live):
                if live is seen.outgoing:
                    changes["outgoing"] = None
                jobs.pop(name_of(live), None)
            case SetOwners(live, owners):
                changed = copy.deepcopy(live)
                changed["metadata"]["ownerReferences"] = list(owners)
                jobs[name_of(live)] = changed
    return replace(seen, jobs=jobs, **changes)


def settled(seen: Observed, rounds: int = 4) -> tuple[Observed, Plan]:
    """The view and the plan once nothing is left to do."""
    for _ in range(rounds):
        todo = plan(seen)
        if not todo.steps:
            return seen, todo
        seen = carried_out(seen, todo)
    raise AssertionError(f"no rest: {list(plan(seen).steps)}")


def _filled(manifest: Obj, live: Obj | None) -> Obj:
    obj = copy.deepcopy(manifest)
    number = next(_numbers)
    before = live["metadata"] if live else {}
    obj["metadata"]["uid"] = before.get("uid") or f"uid-{number}"
    obj["metadata"]["resourceVersion"] = str(number)
    obj["metadata"]["generation"] = before.get("generation", 0) + 1
    if obj["kind"] == "Service":
        obj["spec"]["sessionAffinity"] = "None"
    return _without_empty(obj)


def _without_empty(value: Any) -> Any:
    """What the API server leaves out."""
    if isinstance(value, dict):
        return {k: _without_empty(v) for k, v in value.items() if v not in ("", None)}
    return [_without_empty(v) for v in value] if isinstance(value, list) else value
