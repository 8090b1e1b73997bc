"""Models that are asked for again: when, what becomes of the old one, and which pods are replaced."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.controllers.cluster import NOW, SETTINGS, backend, observed, pod, settled
from tests.unit.controllers.test_plan_backend import DIGEST, ended

from pointsman.controllers.backend_status import status
from pointsman.controllers.conditions import timestamp
from pointsman.controllers.loaded import CONTENT_ANNOTATION, LOADED_ANNOTATION, Loaded, loaded
from pointsman.controllers.observed import Observed
from pointsman.controllers.plan_backend import plan
from pointsman.controllers.steps import Apply, Delete
from pointsman.kube.resources import Obj

OTHER = "sha256:" + "b" * 64
EVERY = SETTINGS.refresh_seconds
FILES = {"engine": "VLLM", "models": [{"name": "m", "source": "hf://org/repo", "refresh": "OnChange"}]}
OLLAMA = {"models": [{"name": "m", "source": "ollama://tiny:1", "refresh": "OnChange"}]}


def pulled(spec: Any, digest: str = DIGEST, at: float = NOW) -> Observed:
    """A backend at rest whose pull ended at `at`."""
    seen, _ = settled(observed(backend(spec), pods=(pod(),)))
    return settled(with_result(seen, digest, at))[0]


def with_result(seen: Observed, digest: str, at: float, **outcome: Any) -> Observed:
    (name,) = seen.jobs
    outcome = outcome or {"state": "Pulled", "digest": digest, "total_bytes": 7}
    job, worker = ended(seen.jobs[name], "Complete" if digest else "Failed", at, **outcome)
    return replace(seen, jobs={name: job}, pull_pods={name: (worker,)})


def remembered(seen: Observed, spec: Any) -> Observed:
    """The same with the status that the operator writes of it."""
    said = status(seen, plan(seen)).to_api()
    return replace(seen, backend=backend(spec, status=said))


@pytest.mark.parametrize(
    ("refresh", "later", "asks"),
    [("OnChange", EVERY - 1, False), ("OnChange", EVERY, True), ("Never", 10 * EVERY, False)],
)
@pytest.mark.parametrize("job_is_there", [True, False])
def test_source_is_asked_again_when_it_is_time(refresh: str, later: float, asks: bool, job_is_there: bool) -> None:
    spec = {"models": [OLLAMA["models"][0] | {"refresh": refresh}]}
    seen = replace(remembered(pulled(spec), spec), now=NOW + later)
    if not job_is_there:
        seen = replace(seen, jobs={}, pull_pods={})
    todo = plan(seen)
    assert [type(s) for s in todo.steps] == ([*([Delete] if job_is_there else []), Apply] if asks else [])
    if refresh == "OnChange" and not asks:
        assert todo.again == EVERY - later


def test_the_old_model_serves_while_the_source_is_asked_and_when_it_does_not_answer() -> None:
    seen = remembered(pulled(OLLAMA), OLLAMA)
    asking, _ = settled(replace(seen, now=NOW + EVERY, pull_pods={}))
    (model,) = status(asking, plan(asking)).models
    assert (model.state, model.digest, model.checked_at) == ("Pulled", DIGEST, timestamp(NOW))
    words = {"state": "Failed", "reason": "UnknownModel", "message": "The tag is gone.", "permanent": True}
    failed = with_result(asking, "", NOW + EVERY, **words)
    said = status(failed, plan(failed))
    (model,) = said.models
    assert (model.state, model.digest) == ("Pulled", DIGEST)
    assert model.message == "not refreshed: The tag is gone."
    assert {c.type: c.status for c in said.conditions}["ModelsPulled"] == "True"


def test_a_model_that_is_another_now_is_in_the_status() -> None:
    seen = remembered(pulled(OLLAMA), OLLAMA)
    asking, _ = settled(replace(seen, now=NOW + EVERY, pull_pods={}))
    (model,) = status(changed := with_result(asking, OTHER, NOW + EVERY), plan(changed)).models
    assert (model.digest, model.checked_at) == (OTHER, timestamp(NOW + EVERY))


def template(seen: Observed) -> Obj:
    assert seen.workload is not None
    return dict(seen.workload["spec"]["template"])


def test_pods_that_read_files_are_replaced_by_a_change_and_by_nothing_else() -> None:
    before, _ = settled(observed(backend(FILES), pods=(pod(),)))
    first = pulled(FILES)
    assert template(first) == template(before), "they waited for their first model"
    seen = remembered(first, FILES)
    asking, _ = settled(replace(seen, now=NOW + EVERY, pull_pods={}))
    same, _ = settled(with_result(asking, DIGEST, NOW + EVERY))
    assert template(same) == template(before)
    other, _ = settled(with_result(asking, OTHER, NOW + EVERY))
    assert template(other) != template(before)
    assert OTHER in template(other)["metadata"]["annotations"][CONTENT_ANNOTATION]
    later, _ = settled(remembered(other, FILES))
    assert template(later) == template(other)


def test_pods_of_ollama_see_a_new_model_by_themselves() -> None:
    before, _ = settled(observed(backend(OLLAMA), pods=(pod(),)))
    seen = remembered(pulled(OLLAMA), OLLAMA)
    asking, _ = settled(replace(seen, now=NOW + EVERY, pull_pods={}))
    other, _ = settled(with_result(asking, OTHER, NOW + EVERY))
    assert template(other) == template(before)


def live(have: Loaded) -> Obj:
    return {
        "metadata": {"annotations": {LOADED_ANNOTATION: have.workload}},
        "spec": {"template": {"metadata": {"annotations": {CONTENT_ANNOTATION: have.pods}}}},
    }


@pytest.mark.parametrize(
    ("contents", "deployment", "pods"),
    [
        ({"p": ""}, "p=d1", ""),
        ({"p": "d1"}, "p=d1", ""),
        ({"p": "d2"}, "p=d2", "p=d2"),
        ({"p": "d1", "q": ""}, "p=d1", ""),
        ({"p": "d1", "q": "d3"}, "p=d1,q=d3", ""),
        ({"q": "d3"}, "q=d3", ""),
        ({}, "", ""),
    ],
)
def test_only_another_content_of_the_same_pull_is_a_change(
    contents: dict[str, str], deployment: str, pods: str
) -> None:
    assert loaded(live(Loaded("p=d1", "")), contents) == Loaded(deployment, pods)
