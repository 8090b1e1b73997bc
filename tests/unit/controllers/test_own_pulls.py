"""Pods that pull for themselves: no claim, no Job, and what the status says of their models."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from tests.unit.controllers.cluster import SETTINGS, backend, observed, pod, settled

from pointsman.api.conditions import BackendCondition
from pointsman.controllers import own_pull_status
from pointsman.controllers.backend_status import status
from pointsman.controllers.observed import Observed
from pointsman.controllers.own_pulls import reports, under_way
from pointsman.controllers.plan_backend import plan
from pointsman.domain.compiling import compile_table
from pointsman.domain.figures import Figures
from pointsman.domain.report import PullProgress, PullReport
from pointsman.kube.resources import Obj

DIGEST = "sha256:" + "a" * 64
PINNED = "sha256:" + "b" * 64
SOURCE = "ollama://tiny:1"
SPEC = {"storage": {"mode": "PerPod"}}
RUNNING = {"running": {}}
WAITING = {"waiting": {"reason": "PodInitializing"}}


def ended(**outcome: Any) -> dict[str, Any]:
    return {"terminated": {"exitCode": outcome.get("exit_code", 0), "message": json.dumps(outcome)}}


PULLED = ended(state="Pulled", digest=DIGEST, total_bytes=7)
GATED = ended(state="Failed", reason="AccessDenied", message="Give a token.", exit_code=24, permanent=True)


def puller(name: str, state: Any, last: Any = None) -> Obj:
    """A pod whose pull is in this state."""
    own = {"name": "pull-0", "state": state, "lastState": last or {}}
    return pod(name, ready=False, phase="Pending", initContainerStatuses=[own])


def view(*pods: Obj, **seen: Any) -> Observed:
    return settled(observed(backend(SPEC), pods=pods, **seen))[0]


def model(seen: Observed) -> tuple[str, str, str]:
    (only,) = status(seen, plan(seen)).models
    return only.state, only.progress, only.message


def condition(seen: Observed, kind: BackendCondition) -> tuple[str, str, str]:
    (found,) = [c for c in status(seen, plan(seen)).conditions if c.type == kind]
    return found.status, found.reason, found.message


def test_there_is_no_claim_and_no_job() -> None:
    seen = view(pod())
    assert seen.claim is None
    assert not seen.jobs
    assert seen.workload is not None
    (store,) = [v for v in seen.workload["spec"]["template"]["spec"]["volumes"] if v["name"] == "store"]
    assert "ephemeral" in store


def test_the_first_pod_has_it_and_those_that_are_added_take_nothing_back() -> None:
    progress = PullProgress(state="Pulling", completed_bytes=43, total_bytes=100)
    report = PullReport(source=SOURCE, progress=progress, at=1.0)
    first, second = puller("p", PULLED), puller("q", RUNNING)
    assert model(view())[0] == "Pending"
    assert model(view(second)) == ("Pulling", "starting", "")
    assert model(view(second, reports={"uid-q": report}))[:2] == ("Pulling", "43 % of 100 B")
    assert model(view(first, second)) == ("Pulled", "pulled, 7 B", "1 of 2 pods still pull it")
    assert model(view(first, puller("q", PULLED))) == ("Pulled", "pulled, 7 B", "")
    assert model(view(first, puller("q", WAITING, last=GATED)))[0] == "Failed", "nor hides that one cannot"


def test_what_the_pull_read_of_the_model_is_kept() -> None:
    read = ended(state="Pulled", digest=DIGEST, total_bytes=7, figures={"weights": 5, "context": 9})
    seen = view(puller("p", read))
    (only,) = own_pull_status.views(seen)
    assert only.figures == Figures(weights=5, context=9)


def test_a_report_of_another_model_of_the_pod_is_not_this_ones() -> None:
    other = PullReport(source="ollama://n:1", progress=PullProgress(state="Pulling", total_bytes=9), at=1.0)
    assert model(view(puller("p", RUNNING), reports={"uid-p": other})) == ("Pulling", "starting", "")


def test_why_a_pull_failed_is_the_root_cause() -> None:
    backoff = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}
    seen = view(puller("p", backoff, last=GATED))
    assert model(seen) == ("Failed", "failed", "Give a token. (trying again)")
    assert condition(seen, BackendCondition.READY)[2] == "model m: Give a token. (trying again)"
    assert condition(seen, BackendCondition.STALLED)[0] == "True"


def test_at_zero_there_is_nothing_to_wait_for() -> None:
    seen, _ = settled(observed(backend({**SPEC, "replicas": 0})))
    assert condition(seen, BackendCondition.MODELS_PULLED)[:2] == ("True", "NothingToPull")


def test_a_pod_reports_while_it_pulls_and_only_then() -> None:
    assert under_way(puller("p", RUNNING))
    assert not under_way(puller("p", WAITING))
    assert not under_way(puller("p", PULLED))
    assert not under_way(pod())
    report = PullReport(source=SOURCE, progress=PullProgress(state="Pulling"), at=1.0)
    assert reports([pod("p"), pod("q")], {"uid-p": report}.get) == {"uid-p": report}


def test_gateways_send_the_tag_unless_a_pin_makes_all_pods_alike() -> None:
    said = {"models": [{"name": "m", "state": "Pulled", "digest": DIGEST}]}

    def sent(spec: Any) -> str:
        return compile_table([backend(spec, status=said)], [], {}, {}).backends["b"].models["m"]

    assert sent(SPEC) == "tiny:1"
    pinned = {**SPEC, "models": [{"name": "m", "source": SOURCE, "digest": PINNED}]}
    assert sent(pinned) == f"pointsman/tiny:sha256-{'b' * 64}"


def test_an_upgrade_of_pointsman_keeps_the_image_that_pulls() -> None:
    seen = view(pod())
    newer = replace(seen, settings=SETTINGS.model_copy(update={"image": "example.test/pointsman:9"}))
    assert plan(newer).steps == ()
