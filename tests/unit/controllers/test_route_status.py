"""What a route's status says of its rules."""

from __future__ import annotations

from typing import Any

from tests.support.asked import backend, route

from pointsman.api import meta
from pointsman.controllers.keys import keys_of
from pointsman.controllers.route_status import status
from pointsman.domain.compiling import compile_table
from pointsman.domain.folding import RouteView
from pointsman.domain.report import TargetState
from pointsman.kube.cache import Cache
from pointsman.kube.resources import BACKENDS, ROUTES

RULES = [{"match": {"capabilities": ["Tools"]}, "targets": ["c", "a"]}]


def judged(spec: Any, states: dict[str, str]) -> Any:
    names = sorted(states)
    view = RouteView(
        serving=True, cause="Serving", message="", last_fallback=None,
        targets=tuple(TargetState(backend=n, model="m", state=states[n]) for n in names),
    )  # fmt: skip
    return status(spec, compile_table([backend(n) for n in "abc"], [spec], {}, {}), view, 0.0)


def said(found: Any, kind: str) -> tuple[str, str, str]:
    condition = next(c for c in found.conditions if c.type == kind)
    return condition.status.value, condition.reason, condition.message


def test_targets_are_those_of_all_rules_once() -> None:
    found = judged(route(["a", "b"], rules=RULES), {"a": "Ready", "b": "Unhealthy", "c": "Ready"})
    assert [(t.backend, t.state) for t in found.targets] == [("a", "Ready"), ("b", "Unhealthy"), ("c", "Ready")]
    assert found.targets_summary == "2/3"


def test_a_rules_broken_target_is_named() -> None:
    rules = [{"match": {"capabilities": ["Tools"]}, "targets": ["nowhere", "a"]}]
    found = judged(route(["a", "b"], rules=rules), {"a": "Ready", "b": "Ready"})
    assert said(found, "ResolvedRefs")[:2] == ("False", "BackendNotFound")
    assert said(found, "Ready")[1] == "BackendNotFound"
    assert [t.state for t in found.targets] == ["Ready", "Ready", "BackendNotFound"]


def test_a_fallback_is_armed_only_if_each_rule_has_one() -> None:
    assert said(judged(route(["a", "b"], rules=RULES), dict.fromkeys("abc", "Ready")), "FallbackArmed")[0] == "True"
    found = judged(route(["a", "b"], rules=RULES), {"a": "Ready", "b": "Ready", "c": "Unhealthy"})
    assert said(found, "FallbackArmed") == (
        "False", "OneUsableTarget", "only a/m of spec.rules[0] could serve now: nothing to fall back to",
    )  # fmt: skip
    alone = [{"match": {"capabilities": ["Tools"]}, "targets": ["c"]}]
    found = judged(route(["a", "b"], rules=alone), dict.fromkeys("abc", "Ready"))
    assert said(found, "FallbackArmed") == (
        "False", "OneTarget", "spec.rules[0] has one target: name a second one to fall back to",
    )  # fmt: skip


def test_a_backend_that_only_a_rule_names_wakes_the_route() -> None:
    cache = Cache()
    spec = {"models": ["chat"], "targets": [{"backend": "a", "model": "m"}],
            "rules": [{"match": {"minContextLength": 1}, "targets": [{"backend": "c", "model": "m"}]}]}  # fmt: skip
    body = {"apiVersion": meta.API_VERSION, "kind": meta.ROUTE_KIND, "metadata": {"name": "r", "namespace": "ns"}}
    cache.replace(ROUTES, [{**body, "spec": spec}], "1", "ns")
    named = {"metadata": {"name": "c", "namespace": "ns"}}
    assert "ModelRoute ns/r" in {str(key) for key in keys_of(BACKENDS, named, cache)}
