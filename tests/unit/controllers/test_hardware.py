"""Which image a backend's pods get by default: by what they compute on, and kept while that stays the same."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.controllers.cluster import backend, observed

from pointsman.controllers.settings import EngineSettings, Settings
from pointsman.engines.base import resources
from pointsman.kube.resources import Obj

GGUF = {"engine": "LlamaCpp", "models": [{"name": "m", "source": "hf://org/repo/m.gguf"}]}


def deployment(spec: dict[str, Any]) -> Obj:
    """As it was applied for this spec."""
    container = {"name": "engine", "image": "x", "resources": resources(backend(spec).spec)}
    return {
        "kind": "Deployment",
        "metadata": {"name": "pmb-b"},
        "spec": {"template": {"spec": {"containers": [container]}}},
    }


@pytest.mark.parametrize(
    ("engine", "gpu", "ending"),
    [
        ("LlamaCpp", None, "llama.cpp:server"),
        ("LlamaCpp", {"count": 1}, "llama.cpp:server-cuda"),
        ("LlamaCpp", {"vendor": "AMD"}, "llama.cpp:server-rocm"),
        ("LlamaCpp", {"resourceName": "gpu.intel.com/xe"}, "llama.cpp:server-intel"),
        ("LlamaCpp", {"resourceName": "example.com/npu"}, "llama.cpp:server"),
        ("VLLM", {"count": 1}, "vllm-openai:v0.32.0"),
        ("VLLM", None, "vllm-cpu-release-repo:v0.32.0"),
    ],
)
def test_default_image_is_for_what_the_pods_compute_on(engine: str, gpu: dict[str, Any] | None, ending: str) -> None:
    image, source = observed(backend(GGUF | {"engine": engine, "gpu": gpu})).image()
    assert (image.endswith(ending), source) == (True, "Default"), image


def test_default_that_was_chosen_is_kept_until_the_hardware_is_another() -> None:
    status = {"image": "old.test/llama:1", "imageSource": "Default"}
    on_cpu, on_gpu = GGUF, GGUF | {"gpu": {"count": 1}}
    for spec, live, kept in (
        (on_cpu, deployment(on_cpu), True),
        (on_gpu, deployment(on_gpu), True),
        (on_gpu, deployment(on_cpu), False),
        (on_cpu, deployment(on_gpu), False),
        (on_gpu, deployment(GGUF | {"gpu": {"vendor": "AMD"}}), False),
        (on_gpu, None, True),
        (GGUF | {"gpu": {"resourceName": "example.com/npu"}}, deployment(on_cpu), True),
    ):
        image, _ = observed(backend(spec, status), workload=live).image()
        assert (image == "old.test/llama:1") is kept, (spec, image)


def test_image_of_the_spec_is_the_image() -> None:
    assert observed(backend(GGUF | {"image": "mine:1"})).image() == ("mine:1", "Spec")


def test_installation_chooses_an_image_for_each_hardware() -> None:
    engines = {"llamaCpp": {"image": "a:1", "images": {"NVIDIA": "a:cuda"}}}
    settings = Settings.model_validate({"engines": engines})
    assert settings.engines.llama_cpp == EngineSettings(image="a:1", images={"NVIDIA": "a:cuda"})
