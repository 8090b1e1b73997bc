"""What the status says: each cause to its condition, and never a word too early."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError
from tests.unit.controllers.cluster import NOW, backend, observed, pod, settled
from tests.unit.controllers.test_plan_backend import DIGEST, ended

from pointsman.api.backend_status import LLMBackendStatus
from pointsman.api.conditions import BackendCondition, Condition, ConditionStatus, Reason, RouteCondition
from pointsman.api.objects import LLMBackend, ModelRoute
from pointsman.controllers import unreadable
from pointsman.controllers.backend_status import status as judge
from pointsman.controllers.causes import root_cause, stuck
from pointsman.controllers.conditions import Conditions, Verdict, flips, timestamp, unix
from pointsman.controllers.model_status import size
from pointsman.controllers.observed import Observed
from pointsman.controllers.plan_backend import plan
from pointsman.domain.folding import Health
from pointsman.domain.report import PullProgress


def ready_view(**changes: Any) -> Observed:
    """A backend whose pod is ready and whose model is pulled."""
    seen, _ = settled(observed(pods=(pod(),)))
    (name,) = seen.jobs
    job, worker = ended(seen.jobs[name], "Complete", state="Pulled", digest=DIGEST, total_bytes=10)
    deployment = {**seen.workload, "status": rolled_out(seen.workload)}
    return replace(
        seen, jobs={name: job}, pull_pods={name: (worker,)}, workload=deployment, health=Health(True, "Healthy"),
        **changes,
    )  # fmt: skip


def rolled_out(deployment: Any, **changes: int) -> dict[str, int]:
    generation = deployment["metadata"]["generation"]
    return {"observedGeneration": generation, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1,
            "availableReplicas": 1, **changes}  # fmt: skip


def of(status: LLMBackendStatus, kind: str) -> Condition:
    (found,) = [c for c in status.conditions if c.type == kind]
    return found


def says(seen: Observed, kind: str = "Ready") -> tuple[str, str]:
    found = of(judge(seen, plan(seen)), kind)
    return found.status.value, found.reason


def test_ready_when_all_is_there() -> None:
    seen = ready_view()
    assert says(seen) == ("True", "Ready")
    assert says(seen, "ModelsPulled") == ("True", "Pulled")
    assert says(seen, "Healthy") == ("True", "Answering")
    assert says(seen, "Stalled") == ("False", "NotStalled")


@pytest.mark.parametrize(
    "changes",
    [{"observedGeneration": 0}, {"updatedReplicas": 0}, {"replicas": 2}, {"availableReplicas": 0}],
)
def test_not_ready_while_the_rollout_goes_on(changes: dict[str, int]) -> None:
    seen = ready_view()
    assert seen.workload is not None
    deployment = {**seen.workload, "status": rolled_out(seen.workload, **changes)}
    assert says(replace(seen, workload=deployment))[0] == "False"


def test_not_ready_while_the_plan_is_not_carried_out() -> None:
    seen = ready_view()
    changed = replace(seen, backend=backend({"image": "example.test/new:1"}, generation=2))
    assert says(changed) == ("False", "Progressing")
    assert of(judge(changed, plan(changed)), "Ready").observed_generation == 2


def test_scaled_to_zero_is_ready_but_not_available() -> None:
    seen = ready_view()
    at_zero, _ = settled(replace(seen, backend=backend({"replicas": 0}), pods=()))
    assert at_zero.workload is not None
    none = rolled_out(at_zero.workload, replicas=0, updatedReplicas=0, readyReplicas=0, availableReplicas=0)
    at_zero = replace(at_zero, workload={**at_zero.workload, "status": none})
    assert says(at_zero) == ("True", "ScaledToZero")
    assert says(at_zero, "Available") == ("False", "ScaledToZero")
    assert says(at_zero, "Healthy") == ("Unknown", "ScaledToZero")


def test_unhealthy_backend_is_not_ready_but_settled() -> None:
    seen = replace(ready_view(), health=Health(False, "Unhealthy", message="refused"))
    assert says(seen) == ("False", "Unhealthy")
    assert says(seen, "Reconciling") == ("False", "Settled")


def test_unknown_health_does_not_hold_up_a_backend_of_ours() -> None:
    assert says(replace(ready_view(), health=Health())) == ("True", "Ready")


def test_models_digest_outlives_a_running_job() -> None:
    seen = ready_view()
    known = judge(seen, plan(seen))
    (name,) = seen.jobs
    running = {**seen.jobs[name], "status": {}}
    after = replace(seen, jobs={name: running}, pull_pods={}, backend=backend(status=known.to_api()))
    models = judge(after, plan(after)).models
    assert (models[0].state, models[0].digest) == ("Pulled", DIGEST)


def test_progress_reads_like_a_sentence() -> None:
    seen, _ = settled(observed(pods=(pod(),)))
    (name,) = seen.jobs
    progress = PullProgress(state="Pulling", completed_bytes=2_021_000_000, total_bytes=4_700_000_000,
                            bytes_per_second=52_000_000, eta_seconds=51, digest=DIGEST)  # fmt: skip
    status = judge(replace(seen, progress={name: progress}), plan(seen))
    assert status.models_summary == "43 % of 4.7 GB, 52.0 MB/s, 51 s left"
    assert status.models[0].digest == "", "a digest means that the model is there"


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (4_700_000_000, "4.7 GB"), (10**13, "10.0 TB")]
)
def test_size_for_people(count: int, text: str) -> None:
    assert size(count) == text


def waiting(word: str, message: str = "", **last: Any) -> Any:
    container: dict[str, Any] = {"name": "engine", "image": "i"}
    container["state"] = {"waiting": {"reason": word, "message": message}}
    if last:
        container["lastState"] = {"terminated": last}
    return pod(ready=False, phase="Pending", containerStatuses=[container])


def unscheduled(message: str) -> Any:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return {**pod(node=None), "status": {"phase": "Pending", "conditions": [condition]}}


PENDING = {"metadata": {"name": "pmb-b", "uid": "c"}, "spec": {}, "status": {"phase": "Pending"}}


@pytest.mark.parametrize(
    ("child", "reason", "word"),
    [
        (unscheduled("0/3 nodes are available: 3 Insufficient nvidia.com/gpu."), "Unschedulable", "nvidia.com/gpu"),
        (unscheduled("1 node(s) didn't match PersistentVolume's node affinity"), "Unschedulable", "affinity"),
        (unscheduled("pod has unbound immediate PersistentVolumeClaims"), "VolumeUnbound", "no default"),
        (waiting("ErrImagePull", "not found"), "ImagePullFailed", "not found"),
        (waiting("InvalidImageName"), "ImagePullFailed", "InvalidImageName"),
        (waiting("CreateContainerConfigError", 'secret "x" not found'), "ContainerConfigError", "secret"),
        (waiting("CrashLoopBackOff", exitCode=2), "CrashLoop", "exit code 2"),
        (waiting("CrashLoopBackOff", exitCode=137, reason="OOMKilled"), "OutOfMemory", "memory"),
    ],
)
def test_root_cause_of_a_pod(child: Any, reason: str, word: str) -> None:
    cause = root_cause(None, PENDING, [child], {})
    assert cause is not None
    assert cause.reason.value == reason
    assert word in cause.message


def test_last_words_of_an_engine_are_the_cause() -> None:
    container = {"name": "engine", "image": "i", "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                 "lastState": {"terminated": {"exitCode": 1, "message": "secret=x\nCUDA out of memory."}}}  # fmt: skip
    cause = root_cause(None, None, [pod(ready=False, phase="Running", containerStatuses=[container])], {})
    assert cause is not None
    assert cause.reason.value == "GpuOutOfMemory"
    assert "secret" not in cause.message


def test_what_a_pod_found_in_place_of_its_model_is_the_cause_and_how_to_mend_it() -> None:
    said = "NotAModel: This is no model: m.gguf does not begin as a GGUF file does; look at the source."
    container = {"name": "model-0", "image": "i", "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                 "lastState": {"terminated": {"exitCode": 23, "message": said}}}  # fmt: skip
    cause = root_cause(None, None, [pod(ready=False, phase="Pending", initContainerStatuses=[container])], {})
    assert cause is not None
    assert cause.reason.value == "NotAModel"
    assert cause.message.startswith("This is no model: m.gguf does not begin as a GGUF file does")
    assert "pointsman.dev/reconcile-at" in cause.message


def test_ready_and_starting_pods_have_no_cause() -> None:
    assert root_cause(None, None, [pod(), waiting("ContainerCreating")], {}) is None


def test_event_of_a_stuck_pod_tells_what_its_status_does_not() -> None:
    child = waiting("ContainerCreating")
    event = {"type": "Warning", "reason": "FailedMount", "message": "timed out waiting for the condition"}
    cause = root_cause(None, None, [child], {"uid-p": (event,)})
    assert cause is not None
    assert cause.reason.value == "VolumeUnbound"


def test_events_are_read_only_of_what_is_stuck() -> None:
    fresh = {**waiting("ContainerCreating"), "metadata": {"name": "p", "uid": "u", "creationTimestamp": timestamp(NOW)}}
    assert stuck([fresh], None, NOW + 5) == []
    assert stuck([fresh], None, NOW + 11) == [fresh]
    assert stuck([pod()], None, NOW + 1000) == []
    lost = {**unscheduled("…"), "metadata": {"name": "p", "uid": "u", "creationTimestamp": timestamp(NOW)}}
    assert stuck([lost], PENDING, NOW + 11) == [PENDING]


def test_transition_time_changes_only_when_the_status_does() -> None:
    def turn(old: tuple[Condition, ...], verdict: Verdict, now: float) -> tuple[Condition, ...]:
        conditions = Conditions(old, 1, now)
        conditions.set(BackendCondition.READY, verdict)
        return conditions.result()

    first = turn((), Verdict(False, Reason.PULLING), NOW)
    second = turn(first, Verdict(False, Reason.STARTING, "x"), NOW + 60)
    third = turn(second, Verdict(True, Reason.READY), NOW + 120)
    assert [c[0].last_transition_time for c in (first, second, third)] == [
        timestamp(NOW), timestamp(NOW), timestamp(NOW + 120),
    ]  # fmt: skip
    assert unix(first[0].last_transition_time) == NOW


def test_news_is_said_once() -> None:
    def c(kind: str, status: str, reason: str) -> Condition:
        return Condition(type=kind, status=ConditionStatus(status), reason=reason)

    fresh = (c("Ready", "False", "Pulling"), c("Stalled", "False", "NotStalled"), c("Healthy", "Unknown", "NoReport"))
    assert [(n.reason, bad) for n, bad in flips((), fresh)] == [("Pulling", False)]
    assert flips(fresh, fresh) == []
    worse = (c("Ready", "False", "AccessDenied"), c("Stalled", "True", "AccessDenied"), fresh[2])
    assert [(n.type, bad) for n, bad in flips(fresh, worse)] == [("Ready", True)]
    assert [(n.type, bad) for n, bad in flips(worse, (c("Ready", "True", "Ready"), *worse[1:]))] == [("Ready", False)]


def test_object_that_cannot_be_read_says_so() -> None:
    body = {"metadata": {"name": "b", "namespace": "ns", "generation": 3}, "spec": {"engine": "Ollama", "new": 1}}
    with pytest.raises(ValidationError) as caught:
        LLMBackend.parse(body)
    _, said = unreadable.backend(body, caught.value, NOW)
    assert (of(said, "Ready").status, of(said, "Stalled").status) == ("False", "True")
    assert of(said, "Ready").reason == "InvalidSpec"
    assert of(said, "Ready").observed_generation == 3
    with pytest.raises(ValidationError) as caught:
        ModelRoute.parse({"metadata": {}, "spec": {"models": ["a"], "targets": [], "x": 1}})
    _, route = unreadable.route({"metadata": {"generation": 1}}, caught.value, NOW)
    assert {c.type for c in route.conditions} == {c.value for c in RouteCondition}
