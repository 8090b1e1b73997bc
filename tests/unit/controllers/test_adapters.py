"""Adapters that come and go: when pods are replaced, what is pulled, and what servers that run are asked for."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from tests.unit.controllers.cluster import backend, observed, pod, settled
from tests.unit.controllers.test_plan_backend import DIGEST, ended

from pointsman.controllers import adapters
from pointsman.controllers.adapters import Call, calls
from pointsman.controllers.backend_status import status
from pointsman.controllers.observed import Observed
from pointsman.controllers.plan_backend import plan
from pointsman.engines.base import model_path
from pointsman.kube.resources import Obj

SQL = {"name": "sql", "source": "hf://org/sql"}
LAW = {"name": "law", "source": "hf://org/law"}


def spec(*listed: Any, **more: Any) -> dict[str, Any]:
    return {"engine": "VLLM", "models": [{"name": "m", "source": "hf://org/m", "adapters": list(listed)}], **more}


def at_rest(*listed: Any) -> Observed:
    return settled(observed(backend(spec(*listed)), pods=(pod(),)))[0]


def changed(seen: Observed, *listed: Any, **more: Any) -> Observed:
    return settled(replace(seen, backend=backend(spec(*listed, **more))))[0]


def template(seen: Observed) -> Obj:
    assert seen.workload is not None
    return dict(seen.workload["spec"]["template"])


def pulled(seen: Observed) -> list[str]:
    """The sources of the pulls that are there."""
    return sorted(j["spec"]["template"]["spec"]["containers"][0]["args"][1] for j in seen.jobs.values())


def test_an_adapter_that_comes_or_goes_replaces_no_pod() -> None:
    seen = at_rest(SQL)
    more = changed(seen, SQL, LAW)
    assert template(more) == template(seen)
    assert pulled(more) == ["hf://org/law", "hf://org/m", "hf://org/sql"]
    fewer = changed(more, LAW)
    assert template(fewer) == template(seen)
    assert pulled(fewer) == ["hf://org/law", "hf://org/m", "hf://org/sql"], "a pod that starts anew loads it at first"
    assert [m.name for m in status(fewer, plan(fewer)).models] == ["m", "law"]


def test_the_first_and_the_last_adapter_and_any_other_change_do() -> None:
    none, one = at_rest(), at_rest(SQL)
    assert template(changed(none, SQL)) == template(one)
    assert template(changed(one)) == template(none)
    newer = changed(changed(one, LAW), LAW, vllm={"maxModelLen": 4096})
    (init,) = [c["args"][1] for c in template(newer)["spec"]["initContainers"] if c["args"][1] != "hf://org/m"]
    assert init == "hf://org/law"
    assert pulled(newer) == ["hf://org/law", "hf://org/m"]


def test_with_a_volume_per_pod_every_change_does() -> None:
    own = {"storage": {"mode": "PerPod"}}
    seen, _ = settled(observed(backend(spec(SQL, **own)), pods=(pod(),)))
    assert template(changed(seen, SQL, LAW, **own)) != template(seen)


def test_an_annotation_that_somebody_broke_is_mended_by_a_rollout() -> None:
    seen = at_rest(SQL)
    for nonsense in ("{", "7", '[{"name": 1}]'):
        broken = {**seen.workload, "metadata": {**seen.workload["metadata"]}}  # type: ignore[dict-item,index]
        broken["metadata"]["annotations"] = {**broken["metadata"]["annotations"], adapters.ANNOTATION: nonsense}
        assert adapters.started_with(broken) == ()
        mended = changed(replace(seen, workload=broken), SQL)
        assert adapters.started_with(mended.workload) == adapters.of(seen.backend)


def path(name: str) -> str:
    (model,) = backend(spec(SQL, LAW)).spec.models
    return next(model_path(m) for m in model.served if m.name == name)


def listing(**loaded: str) -> dict[str, Any]:
    """What vLLM answers to `GET /v1/models`."""
    base = {"id": "m", "object": "model", "root": path("m"), "parent": None}
    more = [{"id": n, "object": "model", "root": p, "parent": "m"} for n, p in loaded.items()]
    return {"object": "list", "data": [base, *more]}


def load(name: str) -> Call:
    return Call("/v1/load_lora_adapter", {"lora_name": name, "lora_path": path(name)}, name)


def unload(name: str) -> Call:
    return Call("/v1/unload_lora_adapter", {"lora_name": name}, name)


def test_a_server_is_asked_for_what_it_lacks_and_has_too_much() -> None:
    of = backend(spec(SQL, LAW))
    both = {"sql", "law"}
    assert calls(of, listing(), both) == (load("sql"), load("law"))
    assert calls(of, listing(sql=path("sql")), both) == (load("law"),)
    assert calls(of, listing(sql=path("sql"), law=path("law")), both) == ()
    assert calls(of, listing(old="/x", sql=path("sql")), both) == (unload("old"), load("law"))
    assert calls(of, listing(sql="/models/of-another-source"), both) == (unload("sql"), load("sql"), load("law"))


def test_nothing_is_loaded_before_it_is_whole() -> None:
    assert calls(backend(spec(SQL, LAW)), listing(), {"law"}) == (load("law"),)


def test_an_answer_that_is_no_list_leads_to_loading_only() -> None:
    for nonsense in (None, [], {"data": None}, {"data": ["x"]}):
        assert calls(backend(spec(SQL)), nonsense, {"sql"}) == (load("sql"),)


def test_ready_says_which_adapter_is_not_loaded() -> None:
    seen = at_rest(SQL)
    jobs, workers = {}, {}
    for name, job in seen.jobs.items():
        jobs[name], worker = ended(job, "Complete", state="Pulled", digest=DIGEST, total_bytes=7)
        workers[name] = (worker,)
    seen = replace(seen, jobs=jobs, pull_pods=workers, unloaded="pod p refuses adapter sql: rank 64 is too large")
    seen, todo = settled(seen)
    ready = next(c for c in status(seen, todo).conditions if c.type == "Ready")
    assert (ready.status, ready.reason, ready.message) == ("False", "AdapterNotLoaded", seen.unloaded)


def test_the_annotation_can_be_read_back() -> None:
    of = backend(spec(SQL, LAW | {"digest": DIGEST}))
    notes = adapters.annotation(of)
    assert adapters.started_with({"metadata": {"annotations": notes}}) == adapters.of(of)
    assert json.loads(notes[adapters.ANNOTATION])[1]["digest"] == DIGEST
    assert adapters.annotation(backend()) == {}
