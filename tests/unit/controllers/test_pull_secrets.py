"""What becomes of a pull whose Secret is missing, appears or changes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.controllers.cluster import NOW, backend, observed, pod, settled
from tests.unit.controllers.test_plan_backend import ended

from pointsman.api.conditions import BackendCondition, Reason
from pointsman.api.references import BundleKind
from pointsman.controllers.backend_status import status
from pointsman.controllers.observed import Observed
from pointsman.controllers.plan_backend import plan
from pointsman.controllers.pull_job import SECRET_ANNOTATION
from pointsman.controllers.steps import Apply, Delete
from pointsman.domain.references import names, references
from pointsman.kube.resources import annotations_of

GATED = backend({"models": [{"name": "m", "source": "ollama://tiny:1", "secretRef": {"name": "key"}}]})


def failed(secret: str | None = "uid/1", at: float = NOW, **outcome: Any) -> Observed:
    """The pull was made with the Secret `uid/1` and failed; the Secret is `secret` now."""
    seen, _ = settled(observed(GATED, pods=(pod(),), secrets={"key": "uid/1"}))
    ((name, job),) = seen.jobs.items()
    assert annotations_of(job)[SECRET_ANNOTATION] == "uid/1"
    job, worker = ended(job, "Failed", at, state="Failed", **outcome)
    return replace(seen, jobs={name: job}, pull_pods={name: (worker,)}, secrets={"key": secret})


@pytest.mark.parametrize("permanent", [True, False])
def test_failed_pull_is_made_again_when_its_secret_is_another_and_only_then(permanent: bool) -> None:
    reason = "AccessDenied" if permanent else "UntrustedCertificate"  # a wrong `ca.crt` stands in the Secret too
    assert plan(failed("uid/1", permanent=permanent, reason=reason)).steps == ()
    for other in ("uid/2", "another/1"):
        gone, made = plan(failed(other, permanent=permanent, reason=reason)).steps
        assert isinstance(gone, Delete)
        assert isinstance(made, Apply)
        assert annotations_of(made.manifest)[SECRET_ANNOTATION] == other
        assert annotations_of(made.manifest)["pointsman.dev/round"] == "0"


def test_failed_pull_stays_while_there_is_no_secret() -> None:
    seen = failed(None, NOW - 10_000, reason="RegistryUnreachable")
    assert plan(seen).steps == (), "another try would only wait for the Secret"


def test_pull_that_made_it_is_left_alone_whatever_becomes_of_its_secret() -> None:
    seen, _ = settled(observed(GATED, pods=(pod(),), secrets={"key": "uid/1"}))
    ((name, job),) = seen.jobs.items()
    job, worker = ended(job, "Complete", NOW, state="Pulled", digest="sha256:" + "a" * 64)
    for now in ("uid/2", None):
        after = replace(seen, jobs={name: job}, pull_pods={name: (worker,)}, secrets={"key": now})
        assert plan(after).steps == ()


def test_missing_secret_is_said_and_no_job_waits_for_it() -> None:
    seen, todo = settled(observed(GATED, pods=(pod(),), secrets={"key": None}))
    assert seen.jobs == {}
    said = {c.type: c for c in status(seen, todo).conditions}
    for kind, holds in ((BackendCondition.READY, "False"), (BackendCondition.STALLED, "True")):
        assert (said[kind].status, said[kind].reason) == (holds, Reason.SECRET_MISSING)
        assert said[kind].message == "model m: Secret key does not exist: create it, its pull needs it"
    assert len(settled(replace(seen, secrets={"key": "uid/1"}))[0].jobs) == 1


def test_missing_secret_of_pods_that_fill_themselves_is_said_before_their_volumes_complaint() -> None:
    """Their kubelet looks for it again and again; the operator says which it is."""
    own = {"models": [m.to_api() for m in GATED.spec.models], "storage": {"mode": "PerPod"}}
    event = {"type": "Warning", "reason": "FailedMount", "message": 'secret "key" not found'}
    made = pod(ready=False, phase="Pending")
    seen = observed(backend(own), pods=(made,), secrets={"key": None}, events={made["metadata"]["uid"]: (event,)})
    seen, todo = settled(seen)
    ready = {c.type: c for c in status(seen, todo).conditions}[BackendCondition.READY]
    assert ready.reason == Reason.SECRET_MISSING
    assert ready.message == "model m: Secret key does not exist: create it, its pull needs it"
    seen, todo = settled(replace(seen, secrets={"key": "uid/1"}))
    ready = {c.type: c for c in status(seen, todo).conditions}[BackendCondition.READY]
    assert ready.reason != Reason.SECRET_MISSING


def test_secret_of_a_pull_concerns_the_backend_and_no_gateway() -> None:
    assert names(GATED, BundleKind.SECRET, "key")
    assert not names(GATED, BundleKind.CONFIG_MAP, "key")
    assert references([GATED]).secrets == frozenset()
