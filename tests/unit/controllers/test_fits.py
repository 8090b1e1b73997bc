"""The condition Fits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.controllers.cluster import NOW, backend, observed, pod

from pointsman.api.backend_status import ModelFigures, ModelStatus
from pointsman.controllers.conditions import Verdict
from pointsman.controllers.fits import fits, with_figures
from pointsman.controllers.model_status import ModelView, view
from pointsman.controllers.placing import GpuNode, GpuView
from pointsman.controllers.plan_pulls import Pull
from pointsman.controllers.pull_job import JobEnd
from pointsman.domain.figures import Figures
from pointsman.engines.gpus import need
from pointsman.models.outcome import PullOutcome

EIGHT_B = ModelFigures(weights=16_060_522_496, kv=65536, context=131072)
PULLED = ModelStatus(name="m", state="Pulled", figures=EIGHT_B)
VLLM: dict[str, Any] = {"engine": "VLLM", "models": [{"name": "m", "source": "hf://org/repo"}], "gpu": {"count": 1}}
SMALL = GpuNode("small", {"nvidia.com/gpu.memory": "23034"}, {"nvidia.com/gpu": 1})
LARGE = GpuNode("large", {"nvidia.com/gpu.memory": "81559"}, {"nvidia.com/gpu": 1})


def judged(
    spec: dict[str, Any], *models: ModelStatus, nodes: tuple[GpuNode, ...] | None = (), pods: Any = ()
) -> Verdict:
    of = backend(spec)
    gpus = GpuView(of.spec, need(of.spec.gpu), "ns", nodes) if of.spec.gpu else None
    return fits(observed(of, gpus=gpus, pods=tuple(pods)), models)


def test_too_large_says_the_figures_and_what_would_fit() -> None:
    found = judged(VLLM | {"gpu": {"memory": "24Gi"}}, PULLED)
    assert (found.holds, found.reason.value) == (False, "TooLarge")
    assert found.message == (
        "model m needs about 32.0 GiB (weights 15.0, 131072 tokens 16.0, the engine 1.0) and the GPU has 21.6 GiB (90 %"
        " of it): the engine is not likely to start; ask for a context of at most 46223 tokens, or for more GPUs"
    )


def test_what_was_asked_for_fits() -> None:
    spec = VLLM | {"gpu": {"memory": "24Gi"}, "vllm": {"maxModelLen": 16384}}
    found = judged(spec, PULLED)
    assert (found.holds, found.reason.value) == (True, "FitsGpu")
    assert "at most 46223 tokens would fit" in found.message
    assert judged(VLLM | {"gpu": {"memory": "24Gi", "count": 2}}, PULLED).holds is True


def test_gpus_of_all_nodes_of_a_replica_count() -> None:
    spec = VLLM | {"gpu": {"memory": "24Gi"}, "storage": {"mode": "PerPod"}, "vllm": {"nodes": 2}}
    found = judged(spec, PULLED)
    assert found.holds is True
    assert "and 2 GPUs have 43.2 GiB (90 % of them)" in found.message


def test_an_engine_that_spills_is_slow_and_does_not_fail() -> None:
    found = judged({"gpu": {"memory": "12Gi"}}, PULLED)
    assert found.holds is False
    assert "on the CPU, slowly" in found.message


@pytest.mark.parametrize(
    ("nodes", "pods", "holds"),
    [
        ((SMALL, LARGE), (), True),  # the largest it could get
        ((SMALL, LARGE), (pod(node="small"),), False),
        ((SMALL, LARGE), (pod(node="large"),), True),
        ((SMALL, LARGE), (pod(node="small"), pod(node="large")), False),
        ((SMALL,), (), False),
        ((replace(SMALL, labels={}),), (), None),
        ((), (), None),
        (None, (), None),
    ],
)
def test_memory_of_the_node_that_it_is_on(nodes: Any, pods: Any, holds: bool | None) -> None:
    assert judged(VLLM, PULLED, nodes=nodes, pods=pods).holds is holds


@pytest.mark.parametrize(
    ("spec", "model", "reason", "word"),
    [
        ({}, PULLED, "NoGpu", "spec.gpu is not set"),
        (VLLM, PULLED, "FitUnknown", "spec.gpu.memory"),
        (VLLM | {"gpu": {"memory": "24Gi"}}, ModelStatus(name="m"), "FitUnknown", "not pulled yet"),
        (VLLM | {"gpu": {"memory": "24Gi"}}, ModelStatus(name="m", state="Pulled"), "FitUnknown", "do not say"),
        (VLLM | {"gpu": {"memory": "24Gi"}, "vllm": {"quantization": "fp8"}}, PULLED, "FitUnknown", "fp8"),
    ],
)
def test_what_is_not_known_is_said(spec: dict[str, Any], model: ModelStatus, reason: str, word: str) -> None:
    found = judged(spec, model)
    assert (found.holds, found.reason.value) == (None, reason)
    assert word in found.message


def test_figures_come_with_the_pull_and_stay() -> None:
    of = backend()
    outcome = PullOutcome(state="Pulled", figures=Figures(weights=5, kv=3))
    pull = Pull(of.spec.models[0], "j", end=JobEnd(True, outcome, 0.0, 0))
    bare = ModelView(ModelStatus(name="m", state="Pulled"))
    (fresh,) = with_figures([view(pull, None, "", NOW)], observed(of))
    assert fresh.figures == ModelFigures(weights=5, kv=3)
    known = backend(status={"models": [fresh.to_api()]})
    (kept,) = with_figures([bare], observed(known))
    assert kept.figures == fresh.figures
    (gone,) = with_figures([ModelView(ModelStatus(name="m", state="Pulling"))], observed(known))
    assert gone.figures is None
