"""Models that are images: no claim, no Job, and what the status says of them."""

from __future__ import annotations

import json
from typing import Any

from tests.unit.controllers.cluster import backend, observed, pod, settled
from tests.unit.controllers.test_image_causes import IMAGE, SAID, waits

from pointsman.api.conditions import BackendCondition, Reason
from pointsman.controllers import image_status
from pointsman.controllers.backend_status import status
from pointsman.controllers.observed import Observed
from pointsman.controllers.plan_backend import plan
from pointsman.domain.figures import Figures
from pointsman.kube.resources import Obj

SPEC: dict[str, Any] = {
    "engine": "LlamaCpp",
    "models": [{"name": "m", "source": f"oci://{IMAGE}"}],
    "storage": {"mode": "Image"},
    "image": "example.test/llama:1",
}
NOTHING = waits("PodInitializing", "")


def ended(**outcome: Any) -> dict[str, Any]:
    state = {"terminated": {"exitCode": outcome.get("exit_code", 0), "message": json.dumps(outcome)}}
    return {"name": "look-0", "state": state}


FOUND = ended(state="Pulled", total_bytes=7, figures={"weights": 5, "context": 9})
EMPTY = ended(state="Failed", reason="NotAModel", message="It is no image.", exit_code=23, permanent=True)


def looker(name: str, look: dict[str, Any], image: str = IMAGE) -> Obj:
    out = pod(name, ready=False, phase="Pending", initContainerStatuses=[look])
    out["spec"]["volumes"] = [{"name": "image-1", "image": {"reference": image}}]
    return out


def view(*pods: Obj, **seen: Any) -> Observed:
    return settled(observed(backend(SPEC), pods=pods, **seen))[0]


def model(seen: Observed) -> tuple[str, str, str]:
    (only,) = status(seen, plan(seen)).models
    return only.state, only.progress, only.message


def ready(seen: Observed) -> tuple[str, str]:
    (found,) = [c for c in status(seen, plan(seen)).conditions if c.type == BackendCondition.READY]
    return found.reason, found.message


def test_there_is_no_claim_and_no_job_and_pods_may_be_on_any_node() -> None:
    seen = view(pod())
    assert seen.claim is None
    assert not seen.jobs
    assert seen.workload is not None
    spec = seen.workload["spec"]["template"]["spec"]
    assert "affinity" not in spec
    assert {"name": "store", "emptyDir": {}} in spec["volumes"]
    assert [v["image"] for v in spec["volumes"] if "image" in v] == [{"reference": IMAGE}]


def test_a_model_is_on_its_way_then_there_and_pods_that_are_added_take_nothing_back() -> None:
    assert model(view())[0] == "Pending"
    assert model(view(looker("p", NOTHING)))[:2] == ("Pulling", "by the node")
    seen = view(looker("p", FOUND), looker("q", NOTHING))
    assert model(seen) == ("Pulled", "pulled, 7 B", "")
    (only,) = image_status.views(seen)
    assert only.figures == Figures(weights=5, context=9)


def test_a_pod_of_another_image_says_nothing_of_this_one() -> None:
    assert model(view(looker("old", FOUND, image="registry.test:5000/demo/tiny:0")))[0] == "Pending"


def test_what_the_node_says_is_the_root_cause() -> None:
    denied = waits("ErrImagePull", SAID[Reason.ACCESS_DENIED])
    seen = view(looker("p", FOUND), looker("q", denied))
    assert model(seen)[0] == "Failed", "nor hides one that has it that another cannot"
    reason, message = ready(seen)
    assert reason == Reason.ACCESS_DENIED
    assert "imagePullSecrets" in message


def test_what_the_look_found_is_the_root_cause() -> None:
    backoff = waits("CrashLoopBackOff", "back-off") | {"lastState": EMPTY["state"]}
    for look in (EMPTY, backoff):
        seen = view(looker("p", look))
        assert ready(seen) == (Reason.NOT_A_MODEL, "model m: It is no image. (trying again)")


def test_at_zero_there_is_nothing_to_wait_for() -> None:
    seen, _ = settled(observed(backend({**SPEC, "replicas": 0})))
    assert model(seen)[:2] == ("Served", "kept by the nodes")


def test_what_its_engine_cannot_load_is_named() -> None:
    seen = view(looker("p", ended(state="Pulled", total_bytes=7, formats=["Checkpoint"])))
    reason, message = ready(seen)
    assert reason == Reason.NOT_A_MODEL
    assert f"write which, as in oci://{IMAGE}/model.gguf" in message


def test_images_have_their_place_in_a_pod_of_engine_custom() -> None:
    custom: dict[str, Any] = {**SPEC, "engine": "Custom"}
    assert view_of({**custom, "custom": {"port": 1}}) is None
    for bad in ({"modelMount": "/images"}, {"modelMount": "/images/a"}, {"writable": ["/images/a"]}):
        assert "choose another folder" in (view_of({**custom, "custom": {"port": 1, **bad}}) or "")


def view_of(spec: dict[str, Any]) -> str | None:
    """What is wrong with it."""
    problem = plan(observed(backend(spec))).problem
    return problem.message if problem else None
