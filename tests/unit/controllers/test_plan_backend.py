"""Plans: what is done for a backend, and that it is done once."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.controllers.cluster import NOW, backend, carried_out, observed, pod, settled

from pointsman.api import meta
from pointsman.api.conditions import Reason
from pointsman.controllers.backend_status import status
from pointsman.controllers.conditions import timestamp
from pointsman.controllers.plan_backend import plan
from pointsman.controllers.pull_job import FIRST_WAIT, LONGEST_WAIT
from pointsman.controllers.steps import Apply, Delete, SetOwners
from pointsman.kube.resources import Obj, name_of, owner_uids

DIGEST = "sha256:" + "a" * 64


def ended(job: Obj, kind: str, at: float = NOW, **outcome: Any) -> tuple[Obj, Obj]:
    """The Job with its end, and its pod with the outcome."""
    condition = {"type": kind, "status": "True", "lastTransitionTime": timestamp(at)}
    message = json.dumps(outcome) if outcome else ""
    container = {"name": "pull", "state": {"terminated": {"message": message, "finishedAt": timestamp(at)}}}
    return {**job, "status": {"conditions": [condition]}}, pod("pull", containerStatuses=[container])


def running() -> tuple[Any, str]:
    """A backend at rest whose pull runs; the view and the Job's name."""
    seen, _ = settled(observed(pods=(pod(),)))
    (name,) = seen.jobs
    return seen, name


def with_end(kind: str, at: float = NOW, **outcome: Any) -> Any:
    seen, name = running()
    job, worker = ended(seen.jobs[name], kind, at, **outcome)
    return replace(seen, jobs={name: job}, pull_pods={name: (worker,)})


def test_children_come_first_then_the_pull() -> None:
    first = plan(observed(pods=(pod(),)))
    assert [s.manifest["kind"] for s in first.steps if isinstance(s, Apply)] == [
        "Service", "PersistentVolumeClaim", "Deployment",
    ]  # fmt: skip
    second = plan(carried_out(observed(pods=(pod(),)), first))
    assert [s.manifest["kind"] for s in second.steps if isinstance(s, Apply)] == ["Job"]


@pytest.mark.parametrize(
    ("spec", "pods", "starts"),
    [
        ({}, (), False),
        ({}, (pod(node=None, ready=False),), False),
        ({}, (pod(),), True),
        ({"replicas": 0}, (), True),
        ({"storage": {"accessMode": "ReadWriteMany"}}, (), True),
    ],
    ids=["no pod", "unscheduled", "scheduled", "no replicas", "shared volume"],
)
def test_pull_waits_for_the_pod_that_chooses_the_volumes_place(spec: Any, pods: Any, starts: bool) -> None:
    seen, todo = settled(observed(backend(spec), pods=pods))
    assert bool(seen.jobs) is starts
    assert bool(todo.pulls[0].waiting) is not starts


def test_same_source_and_volume_is_pulled_once_another_pin_again() -> None:
    models = [
        {"name": "a", "source": "ollama://tiny:1"},
        {"name": "b", "source": "ollama://library/tiny:1"},
        {"name": "c", "source": "ollama://tiny:1", "digest": DIGEST},
    ]
    seen, todo = settled(observed(backend({"models": models}), pods=(pod(),)))
    assert len(seen.jobs) == 2
    assert [p.model.name for p in todo.pulls] == ["a", "b", "c"]
    assert todo.pulls[0].name == todo.pulls[1].name != todo.pulls[2].name


def test_another_volume_means_another_pull() -> None:
    seen, name = running()
    claim = {**seen.claim, "metadata": {**seen.claim["metadata"], "uid": "another"}}
    after, _ = settled(replace(seen, claim=claim))
    assert name not in after.jobs
    assert len(after.jobs) == 1


def test_lost_result_is_fetched_again_a_known_one_is_not() -> None:
    seen = with_end("Complete")
    assert [type(s) for s in plan(seen).steps] == [Delete, Apply]
    (name,) = seen.jobs
    known = {"models": [{"name": "m", "pull": name, "state": "Pulled", "digest": DIGEST}]}
    assert plan(replace(seen, backend=backend(status=known))).steps == ()
    gone = replace(seen, backend=backend(status=known), jobs={}, pull_pods={})
    assert plan(gone).steps == (), "the Job is gone, the model is not"
    asked = replace(gone, backend=backend(status=known, annotations={meta.RECONCILE_ANNOTATION: "now"}))
    assert [type(s) for s in plan(asked).steps] == [Apply]


def test_who_asks_has_what_is_there_verified_too() -> None:
    seen = with_end("Complete")
    (name,) = seen.jobs
    known = {"models": [{"name": "m", "pull": name, "state": "Pulled", "digest": DIGEST}]}
    of = backend(status=known, annotations={meta.RECONCILE_ANNOTATION: "now"})
    steps = plan(replace(seen, backend=of)).steps
    assert [type(s) for s in steps] == [Delete, Apply]
    (anew,) = [s.manifest for s in steps if isinstance(s, Apply)]
    assert "--verify" in anew["spec"]["template"]["spec"]["containers"][0]["args"]
    (first,) = [o for o in plan(replace(seen, jobs={})).steps if isinstance(o, Apply) and o.manifest["kind"] == "Job"]
    assert "--verify" not in first.manifest["spec"]["template"]["spec"]["containers"][0]["args"]
    handled = backend(status={**known, "lastHandledReconcileAt": "now"}, annotations={meta.RECONCILE_ANNOTATION: "now"})
    assert plan(replace(seen, backend=handled)).steps == ()


def test_who_asks_while_a_pull_runs_is_answered_when_it_has_ended() -> None:
    """Whoever mends a source and asks may be faster than the pull that fails of it."""
    seen, name = running()
    seen = replace(seen, backend=backend(annotations={meta.RECONCILE_ANNOTATION: "now"}))
    assert plan(seen).steps == (), "it is not broken off"
    assert status(seen, plan(seen)).last_handled_reconcile_at == ""
    job, worker = ended(seen.jobs[name], "Failed", state="Failed", permanent=True, reason="UnknownModel")
    seen = replace(seen, jobs={name: job}, pull_pods={name: (worker,)})
    gone, made = plan(seen).steps
    assert isinstance(gone, Delete)
    assert isinstance(made, Apply)
    anew = replace(seen, jobs={name: {**made.manifest, "metadata": {**made.manifest["metadata"], "uid": "u"}}})
    anew = replace(anew, pull_pods={})
    assert plan(anew).steps == ()
    assert status(anew, plan(anew)).last_handled_reconcile_at == "now"
    job, worker = ended(anew.jobs[name], "Failed", state="Failed", permanent=True, reason="UnknownModel")
    assert plan(replace(anew, jobs={name: job}, pull_pods={name: (worker,)})).steps == (), "once is enough"


def test_permanent_failure_does_not_come_back_by_itself() -> None:
    seen = with_end("Failed", NOW - 10 * LONGEST_WAIT, state="Failed", permanent=True, reason="AccessDenied")
    todo = plan(seen)
    assert todo.steps == ()
    assert todo.again is None
    asked = {"annotations": {meta.RECONCILE_ANNOTATION: "1"}}
    assert [type(s) for s in plan(replace(seen, backend=backend(**asked))).steps] == [Delete, Apply]
    handled = backend(status={"lastHandledReconcileAt": "1"}, **asked)
    assert plan(replace(seen, backend=handled)).steps == ()


@given(st.integers(0, 40))
def test_other_failures_come_back_later_and_later_within_a_quarter_of_an_hour(round_: int) -> None:
    seen = with_end("Failed", NOW, state="Failed", reason="RegistryUnreachable")
    (name,) = seen.jobs
    job = seen.jobs[name]
    job = {**job, "metadata": {**job["metadata"], "annotations": {"pointsman.dev/round": str(round_)}}}
    seen = replace(seen, jobs={name: job})
    todo = plan(seen)
    assert todo.steps == ()
    assert todo.again == min(LONGEST_WAIT, FIRST_WAIT * 2**round_)
    later = plan(replace(seen, now=NOW + todo.again))
    assert [type(s) for s in later.steps] == [Delete, Apply]
    made = later.steps[1]
    assert isinstance(made, Apply)
    assert made.manifest["metadata"]["annotations"]["pointsman.dev/round"] == str(min(round_, 32) + 1)


def test_shared_pull_gets_and_loses_owners() -> None:
    seen, name = running()
    other = backend(name="c", uid="uid-c")
    claim = seen.claim
    view = observed(backend({"storage": {"existingClaim": "s"}}, name="c", uid="uid-c"), claim=claim, jobs=seen.jobs,
                    pods=(pod(),))  # fmt: skip
    steps = [s for s in plan(view).steps if isinstance(s, SetOwners)]
    assert [o["uid"] for o in steps[0].owners] == ["uid-b", "uid-c"]
    shared = carried_out(view, plan(view)).jobs
    assert owner_uids(shared[name]) == ("uid-b", "uid-c")
    moved = backend({"models": [{"name": "m", "source": "ollama://other:1"}], "storage": {"existingClaim": "s"}},
                    name="c", uid="uid-c")  # fmt: skip
    after, _ = settled(observed(moved, claim=claim, jobs=shared, pods=(pod(),)))
    assert owner_uids(after.jobs[name]) == ("uid-b",)
    assert other.meta.name == "c"


def test_unneeded_pull_is_ended() -> None:
    seen, name = running()
    moved = replace(seen, backend=backend({"models": [{"name": "m", "source": "ollama://other:1"}]}))
    after, _ = settled(moved)
    assert name not in after.jobs


def test_foreign_object_stops_everything_before_the_first_write() -> None:
    foreign = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "pmb-b", "namespace": "ns", "uid": "f"}}
    todo = plan(observed(service=foreign))
    assert todo.steps == ()
    assert todo.problem is not None
    assert todo.problem.reason is Reason.NAME_TAKEN


def test_children_of_a_deleted_namesake_are_waited_for() -> None:
    old = {"kind": meta.BACKEND_KIND, "name": "b", "uid": "older"}
    left = {"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "pmb-b", "namespace": "ns", "uid": "f", "ownerReferences": [old]}}  # fmt: skip
    todo = plan(observed(workload=left))
    assert todo.steps == ()
    assert todo.problem is None
    assert todo.wait
    assert todo.again is not None


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"env": [{"name": "OLLAMA_HOST", "value": "x"}]}, Reason.INVALID_SPEC),
        ({"ollama": {"parallel": 2}, "env": [{"name": "OLLAMA_NUM_PARALLEL", "value": "4"}]}, Reason.INVALID_SPEC),
        ({"models": [{"name": "m", "source": "ollama://a/b/c/d"}]}, Reason.BAD_REFERENCE),
    ],
)
def test_spec_that_cannot_work_is_said_and_nothing_is_written(spec: Any, reason: Reason) -> None:
    todo = plan(observed(backend(spec)))
    assert todo.steps == ()
    assert todo.problem is not None
    assert todo.problem.reason is reason


def test_volume_that_was_grown_by_hand_is_not_shrunk() -> None:
    seen, _ = running()
    claim = {**seen.claim, "spec": {**seen.claim["spec"], "resources": {"requests": {"storage": "200Gi"}}}}
    after, _ = settled(replace(seen, claim=claim))
    assert after.claim is not None
    assert after.claim["spec"]["resources"]["requests"]["storage"] == "200Gi"
    grown = replace(seen, backend=backend({"storage": {"size": "300Gi"}}))
    after, _ = settled(grown)
    assert after.claim is not None
    assert after.claim["spec"]["resources"]["requests"]["storage"] == "300Gi"


def test_pods_that_move_with_their_volume_all_go_first_and_only_then() -> None:
    """New pods must join the old ones on their node, where they may no longer run: one by one would never end."""

    def unavailable(view: Any) -> Any:
        return view.workload["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"]

    seen, _ = settled(observed(backend({"replicas": 2}), pods=(pod(),)))
    assert unavailable(seen) == 1
    newer, _ = settled(replace(seen, backend=backend({"replicas": 2, "image": "example.test/x:2"})))
    assert unavailable(newer) == 1
    moved, _ = settled(replace(seen, backend=backend({"replicas": 2, "nodeSelector": {"zone": "b"}})))
    assert unavailable(moved) == "100%"
    done = {"observedGeneration": moved.workload["metadata"]["generation"], "updatedReplicas": 2}
    after, _ = settled(replace(moved, workload={**moved.workload, "status": done}))
    assert unavailable(after) == 1
    back, _ = settled(replace(after, backend=backend({"replicas": 2})))
    assert unavailable(back) == "100%"


def without_rollout(spec: Any) -> Any:
    """How pods are replaced depends on whether they have just moved."""
    return {k: v for k, v in spec.items() if k != "strategy"}


QUANTITY = st.sampled_from(["1000m", "2", "1024Mi", "1Gi", "0.5"])
SPECS = st.fixed_dictionaries(
    {},
    optional={
        "replicas": st.integers(0, 3),
        "gpu": st.fixed_dictionaries({"count": st.integers(1, 4)}),
        "storage": st.sampled_from([
            {}, {"size": "100Gi"}, {"accessMode": "ReadWriteMany"}, {"retain": True}, {"storageClassName": "fast"},
        ]),
        "ollama": st.fixed_dictionaries({}, optional={"parallel": st.integers(1, 9), "keepAlive": st.just("30m")}),
        "env": st.just([{"name": "A", "value": ""}, {"name": "B", "value": "b"}]),
        "resources": st.fixed_dictionaries({"requests": st.dictionaries(st.sampled_from(["cpu", "memory"]), QUANTITY)}),
        "tolerations": st.just([{"key": "a", "operator": "Exists"}, {"key": "b", "operator": "Exists"}]),
        "nodeSelector": st.just({"zone": "a"}),
        "imagePullSecrets": st.just([{"name": "s"}]),
        "drainSeconds": st.integers(0, 100),
        "startupTimeout": st.sampled_from(["30s", "20m"]),
        "runtimeClassName": st.just("nvidia"),
        "image": st.just("example.test/other:2"),
    },
)  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(SPECS, SPECS)
def test_plan_of_what_was_carried_out_is_empty_and_going_back_restores_the_children(first: Any, second: Any) -> None:
    seen, _ = settled(observed(backend(first), pods=(pod(),)))
    assert plan(seen).steps == ()
    assert plan(seen) == plan(seen)
    storage = {"storage": first["storage"]} if "storage" in first else {}
    other = {**{k: v for k, v in second.items() if k != "storage"}, **storage}
    changed, _ = settled(replace(seen, backend=backend(other)))
    back, _ = settled(replace(changed, backend=backend(first)))
    for child in ("service", "claim", "workload"):
        a, b = getattr(seen, child), getattr(back, child)
        assert without_rollout(a["spec"]) == without_rollout(b["spec"])
    assert {name_of(j) for j in seen.jobs.values()} == {name_of(j) for j in back.jobs.values()}
