"""Replicas on several nodes: from one kind of workload to the other and back, and what the pods of groups say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.unit.controllers.cluster import NOW, backend, observed, settled
from tests.unit.controllers.cluster import pod as any_pod
from tests.unit.controllers.test_plan_backend import DIGEST, ended
from tests.unit.controllers.test_status import of as condition_of
from tests.unit.controllers.test_status import says

from pointsman.api import meta
from pointsman.api.backend_status import LLMBackendStatus
from pointsman.api.conditions import BackendCondition
from pointsman.controllers.backend_status import status as judge
from pointsman.controllers.observed import Observed
from pointsman.controllers.plan_backend import plan
from pointsman.controllers.steps import Apply, Delete
from pointsman.controllers.workload import lacking, progress, template
from pointsman.domain.folding import Health
from pointsman.engines.groups import GROUP_INDEX, SIZE, TEMPLATE_ANNOTATION, WORKER
from pointsman.kube.resources import Obj, annotations_of

ONE: dict[str, Any] = {
    "engine": "VLLM", "models": [{"name": "m", "source": "hf://org/repo"}], "gpu": {"count": 1},
    "storage": {"accessMode": "ReadWriteMany"},
}  # fmt: skip
TWO = ONE | {"vllm": {"nodes": 2}}


def pod(group: int, worker: int, digest: str, *, ready: bool = True, **status: Any) -> Obj:
    """A pod of a group of two, of the templates with that digest."""
    out = any_pod(f"pmg-b-{group}-{worker}", ready=ready, **status)
    out["metadata"]["labels"] = {
        GROUP_INDEX: str(group), meta.COMPONENT_LABEL: WORKER if worker else "engine", meta.BACKEND_LABEL: "b",
    }  # fmt: skip
    out["metadata"]["annotations"] = {TEMPLATE_ANNOTATION: digest, SIZE: "2"}
    return out


def digest_of(seen: Observed) -> str:
    return annotations_of(template(seen.workload)).get(TEMPLATE_ANNOTATION, "")


def up(spec: dict[str, Any] = TWO, **meta: Any) -> Observed:
    """All replicas of it are up, of one group each, and the model is pulled."""
    seen, _ = settled(observed(backend(spec, **meta)))
    (name,) = seen.jobs
    job, worker = ended(seen.jobs[name], "Complete", state="Pulled", digest=DIGEST)
    seen, _ = settled(replace(seen, jobs={name: job}, pull_pods={name: (worker,)}))
    assert seen.workload is not None
    seen = replace(seen, workload={**seen.workload, "status": {"replicas": 1}}, health=Health(True, "Healthy"))
    pods = tuple(pod(g, w, digest_of(seen)) for g in range(seen.replicas) for w in range(2))
    return replace(seen, pods=pods)


def test_ready_when_every_pod_of_every_group_is() -> None:
    seen = up(TWO | {"replicas": 2})
    assert says(seen) == ("True", "Ready")
    status = judge(seen, plan(seen))
    assert (status.replicas, status.ready_replicas) == (2, 2), "groups are counted, not pods"
    one_starts = replace(seen, pods=(*seen.pods[:3], pod(1, 1, digest_of(seen), ready=False)))
    assert judge(one_starts, plan(one_starts)).ready_replicas == 1
    assert says(one_starts) == ("False", "Progressing")
    one_is_missing = replace(seen, pods=seen.pods[:3])
    assert judge(one_is_missing, plan(one_is_missing)).ready_replicas == 1


def test_groups_of_the_templates_before_are_not_of_this_generation() -> None:
    """What a LeaderWorkerSet's own status says may still be of the ones before."""
    seen = up()
    changed, todo = settled(
        replace(seen, backend=backend(TWO | {"vllm": {"nodes": 2, "maxModelLen": 9}}, generation=2))
    )
    assert digest_of(changed) != digest_of(seen)
    assert says(changed) == ("False", "Progressing")
    assert "0 of 1 groups of pods" in condition_of(judge(changed, todo), "Ready").message
    assert says(replace(changed, pods=tuple(pod(0, w, digest_of(changed)) for w in range(2)))) == ("True", "Ready")


def test_more_groups_than_asked_for_are_still_ending() -> None:
    seen = up(TWO | {"replicas": 2})
    fewer, todo = settled(replace(seen, backend=backend(TWO, generation=2)))
    assert "still ending" in condition_of(judge(fewer, todo), "Ready").message


def test_without_its_kind_nothing_is_done_and_the_status_says_what_to_do() -> None:
    seen = observed(backend(TWO), no_groups="the cluster has no LeaderWorkerSet: install it")
    todo = plan(seen)
    assert todo.steps == ()
    assert todo.again is not None, "it heals by itself"
    assert says(seen) == ("False", "NoLeaderWorkerSets")
    assert says(seen, "Stalled") == ("True", "NoLeaderWorkerSets")


def test_set_without_a_controller_is_said() -> None:
    seen = up()
    assert seen.workload is not None
    bare = {k: v for k, v in seen.workload.items() if k != "status"}
    nobody = replace(seen, workload=bare, pods=())
    assert "does one run in the cluster?" in condition_of(judge(nobody, plan(nobody)), "Ready").message


def test_from_one_node_to_several_and_back_the_old_one_goes_first_and_the_volume_stays() -> None:
    one = up(ONE)
    to_two = replace(one, backend=backend(TWO, generation=2), workload=None, outgoing=one.workload)
    first, second = plan(to_two).steps
    assert isinstance(first, Delete)
    assert first.live["kind"] == "Deployment"
    assert isinstance(second, Apply)
    assert second.manifest["kind"] == "LeaderWorkerSet"
    two, _ = settled(to_two)
    assert two.claim is one.claim
    assert two.outgoing is None
    to_one = replace(two, backend=backend(ONE, generation=3), workload=None, outgoing=two.workload)
    first, second = plan(to_one).steps
    assert isinstance(first, Delete)
    assert first.live["kind"] == "LeaderWorkerSet"
    assert isinstance(second, Apply)
    assert second.manifest["kind"] == "Deployment"


def test_somebody_elses_object_of_the_other_kind_is_left_alone() -> None:
    theirs = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "pmb-b", "namespace": "ns", "uid": "u"},
    }
    assert not any(isinstance(s, Delete) for s in plan(observed(backend(TWO), outgoing=theirs)).steps)


def test_claim_of_one_node_is_refused_in_one_sentence() -> None:
    claim = {"metadata": {"name": "c", "uid": "uid-c"}, "spec": {"accessModes": ["ReadWriteOnce"]}}
    seen = observed(backend(TWO | {"storage": {"existingClaim": "c"}}), claim=claim)
    problem = plan(seen).problem
    assert problem is not None
    assert problem.message.startswith("PersistentVolumeClaim c cannot be ReadWriteMany, and spec.vllm.nodes asks for")
    many = {"metadata": claim["metadata"], "spec": {"accessModes": ["ReadWriteMany"]}}
    assert plan(replace(seen, claim=many)).problem is None


def test_worker_that_finds_no_node_is_the_cause() -> None:
    seen = up()
    waiting = pod(0, 1, digest_of(seen), ready=False)
    message = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
    waiting["status"] = {
        "phase": "Pending",
        "conditions": [{"type": "PodScheduled", "status": "False", "message": message}],
    }
    seen = replace(seen, pods=(seen.pods[0], waiting))
    assert says(seen) == ("False", "Unschedulable")


def test_why_a_worker_ended_outlives_the_pods_of_its_group() -> None:
    """All pods of a group are made anew when one ends, and those know nothing."""
    seen = up()
    killed = {"name": "engine", "state": {"terminated": {"reason": "OOMKilled", "exitCode": 137}}}
    broken = replace(seen, pods=(seen.pods[0], pod(0, 1, digest_of(seen), ready=False, containerStatuses=[killed])))
    said = judge(broken, plan(broken))
    assert condition_of(said, "Ready").reason == "OutOfMemory"
    anew = tuple(pod(0, w, digest_of(seen), ready=False) for w in range(2))
    again = replace(broken, backend=with_status(broken, said), pods=anew)
    assert says(again) == ("False", "OutOfMemory")
    assert says(replace(again, pods=seen.pods)) == ("True", "Ready"), "until it is up again"
    other = replace(again, backend=backend(TWO, said.to_api(), generation=2))
    assert says(other)[1] != "OutOfMemory", "or the spec is another"


def test_group_that_takes_too_long_is_stalled() -> None:
    seen = up()
    killed = {"name": "engine", "state": {"terminated": {"reason": "OOMKilled", "exitCode": 137}}}
    broken = replace(seen, pods=(seen.pods[0], pod(0, 1, digest_of(seen), ready=False, containerStatuses=[killed])))
    broken = replace(broken, backend=with_status(broken, judge(broken, plan(broken))))
    assert says(broken, "Stalled") == ("False", "NotStalled")
    assert says(replace(broken, now=NOW + 86400), "Stalled") == ("True", "OutOfMemory")


def with_status(seen: Observed, status: LLMBackendStatus) -> Any:
    return backend(TWO, status.to_api())


def test_requests_and_adapters_are_for_leaders() -> None:
    seen = up(TWO | {"replicas": 2})
    assert [p["metadata"]["name"] for p in seen.serving] == ["pmg-b-0-0", "pmg-b-1-0"]


def test_sets_that_lack_pods_are_those_whose_words_are_read() -> None:
    seen = up(TWO | {"replicas": 2})
    assert lacking(seen.workload, seen.pods) == []
    assert [s["metadata"]["name"] for s in lacking(seen.workload, seen.pods[:3])] == ["pmg-b-1"]
    assert [s["metadata"]["name"] for s in lacking(seen.workload, seen.pods[:2])] == ["pmg-b"]
    assert lacking(up(ONE).workload, ()) == []


def test_pod_whose_size_is_not_known_makes_no_whole_group() -> None:
    seen = up()
    leader = pod(0, 0, digest_of(seen))
    del leader["metadata"]["annotations"][SIZE]
    assert progress(seen.workload, [leader, seen.pods[1]]).ready == 0


def test_new_content_keeps_the_files_of_a_pod() -> None:
    """The annotation that says which content pods have loaded stands beside those that are files in them."""
    seen = up(ONE | {"models": [{"name": "m", "source": "hf://org/repo", "refresh": "OnChange"}]})
    (name,) = seen.jobs
    job, worker = ended(seen.jobs[name], "Complete", state="Pulled", digest="sha256:" + "c" * 64)
    seen, _ = settled(replace(seen, jobs={name: job}, pull_pods={name: (worker,)}))
    assert {"pointsman.dev/content", "pointsman.dev/logging.json"} <= template(seen.workload)["metadata"][
        "annotations"
    ].keys()


def test_conditions_are_those_of_every_backend() -> None:
    said = judge(up(), plan(up()))
    assert {c.type for c in said.conditions} == {c.value for c in BackendCondition}
