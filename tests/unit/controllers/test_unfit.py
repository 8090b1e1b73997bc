"""A pull that brought what its engine cannot load says so, and what to write, before the server has tried."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.controllers.cluster import NOW, backend, observed, pod, settled
from tests.unit.controllers.test_plan_backend import ended

from pointsman.api.conditions import BackendCondition, Reason
from pointsman.controllers.backend_status import status
from pointsman.controllers.plan_backend import plan
from pointsman.domain.formats import Format

WAITING = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}
CRASHED = {"containerStatuses": [{"name": "engine", "restartCount": 3, "state": WAITING}]}
F = Format


def said(spec: dict[str, Any], *formats: list[str] | None) -> dict[str, tuple[str, str, str]]:
    """Conditions once the pulls have ended with these formats, in the order of the models, and the server crashes."""
    claim = {"metadata": {"name": "c", "uid": "u"}, "spec": {"accessModes": ["ReadWriteMany"]}}
    of = backend({"storage": {"existingClaim": "c"}, **spec})
    seen, todo = settled(observed(of, claim=claim, pods=(pod(ready=False, **CRASHED),)))
    jobs, pods = {}, {}
    for pull, found in zip(todo.pulls, formats, strict=True):
        outcome: dict[str, Any] = {"state": "Pulled", "digest": "sha256:" + "a" * 64, "path": "p"}
        if found is not None:
            outcome["formats"] = found
        jobs[pull.name], worker = ended(seen.jobs[pull.name], "Complete", NOW, **outcome)
        pods[pull.name] = (worker,)
    seen = replace(seen, jobs=jobs, pull_pods=pods)
    seen, todo = settled(seen)
    return {c.type: (c.status, c.reason, c.message) for c in status(seen, plan(seen)).conditions}


def one(engine: str, source: str) -> dict[str, Any]:
    return {"engine": engine, "models": [{"name": "m", "source": source}]}


@pytest.mark.parametrize(
    ("spec", "formats", "sentence"),
    [
        (one("LlamaCpp", "s3://bucket/folder"), [F.CHECKPOINT],
         "model m: s3://bucket/folder holds no GGUF file, or several, and engine LlamaCpp reads one: write which, as in"
         " s3://bucket/folder/model.gguf"),
        (one("LlamaCpp", "pvc://claim/a"), [],
         "model m: pvc://claim/a holds no GGUF file, or several, and engine LlamaCpp reads one: write which, as in"
         " pvc://claim/a/model.gguf"),
        (one("LlamaCpp", "oci://host.example/m"), [F.CHECKPOINT],
         "model m: oci://host.example/m holds no GGUF file, or several, and engine LlamaCpp reads one: write which,"
         " as in oci://host.example/m:latest/model.gguf"),
        (one("VLLM", "oci://host.example/m"), [F.GGUF_IN_FOLDER],
         "model m: oci://host.example/m has no config.json, and engine VLLM reads a folder with one beside its weights:"
         " write the source of such a folder, as hf://Qwen/Qwen3-8B is"),
    ],
)  # fmt: skip
def test_what_to_write_is_said_whatever_the_server_does(spec: Any, formats: list[str], sentence: str) -> None:
    found = said(spec, formats)
    assert found[BackendCondition.READY] == ("False", Reason.NOT_A_MODEL, sentence)
    assert found[BackendCondition.STALLED] == ("True", Reason.NOT_A_MODEL, sentence)
    assert found[BackendCondition.MODELS_PULLED] == ("False", Reason.NOT_A_MODEL, sentence)


@pytest.mark.parametrize(
    ("engine", "source", "formats"),
    [
        ("LlamaCpp", "s3://bucket/folder", [F.CHECKPOINT, F.GGUF_IN_FOLDER]),
        ("LlamaCpp", "https://host.example/m.gguf", [F.GGUF_FILE]),
        ("LlamaCpp", "s3://bucket/folder", None),
        ("VLLM", "s3://bucket/folder", [F.CHECKPOINT]),
        ("VLLM", "hf://o/r/m.gguf", [F.GGUF_FILE]),
    ],
)
def test_what_it_can_load_is_pulled(engine: str, source: str, formats: Any) -> None:
    found = said(one(engine, source), formats)
    assert found[BackendCondition.MODELS_PULLED][:2] == ("True", Reason.PULLED)
    assert found[BackendCondition.READY][1] == Reason.CRASH_LOOP


def test_custom_images_load_what_they_like() -> None:
    spec = one("Custom", "s3://bucket/folder") | {"image": "example.test/own:1", "custom": {"port": 80}}
    assert said(spec, [])[BackendCondition.MODELS_PULLED][0] == "True"


def test_an_adapter_must_be_one() -> None:
    adapters = [{"name": "a", "source": "s3://bucket/lora"}]
    spec = {"engine": "VLLM", "models": [{"name": "m", "source": "hf://o/r", "adapters": adapters}]}
    found = said(spec, [F.CHECKPOINT], [F.CHECKPOINT])[BackendCondition.READY]
    assert found[1:] == (
        Reason.NOT_A_MODEL,
        "model a: s3://bucket/lora has no adapter_config.json: write a source that is a folder with a LoRA adapter",
    )
    assert said(spec, [F.CHECKPOINT], [F.ADAPTER])[BackendCondition.MODELS_PULLED][0] == "True"
