"""Which models are recommended, and in which order."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.api.engine import Engine
from pointsman.api.objects import LLMBackend
from pointsman.catalogue.catalogue import GIB, Task, catalogue
from pointsman.catalogue.recommend import Choice, Wish, recommend
from pointsman.cli.main import main


def choices(task: str, memory: int, **wish: Any) -> list[Choice]:
    return recommend(catalogue(), Wish(Task(task), memory * GIB, **wish))


def names(found: list[Choice]) -> list[str]:
    return [c.entry.name for c in found]


def test_what_was_made_for_the_task_comes_first_and_the_larger_of_these() -> None:
    found = choices("coding", 24)
    made = [c for c in found if c.entry.tasks[0] is Task.CODING]
    assert found[: len(made)] == made
    sizes = [c.entry.parameters for c in made]
    assert sizes == sorted(sizes, reverse=True)
    assert found[0].entry.name == "qwen2.5-coder-32b"
    assert found[0].source.form.value == "AWQ"


def test_a_coarser_form_of_a_larger_model_goes_before_a_finer_one_of_a_smaller() -> None:
    assert names(choices("coding", 48))[0] == "qwen2.5-coder-32b"
    (fine,) = [c for c in choices("coding", 80) if c.entry.name == "qwen2.5-coder-32b"]
    assert fine.source.form.value == "BF16"


def test_a_longer_context_is_made_room_for() -> None:
    short, long = choices("coding", 24), choices("coding", 24, context=32768)
    assert "qwen2.5-coder-32b" in names(short)
    assert "qwen2.5-coder-32b" not in names(long)
    assert all(c.most >= 32768 for c in long)


def test_one_engine_only() -> None:
    for engine in (Engine.VLLM, Engine.OLLAMA, Engine.LLAMA_CPP):
        found = choices("chat", 24, engine=engine)
        assert found
        assert {c.source.engine for c in found} == {engine}


def test_without_gpus_nothing_asks_for_one() -> None:
    found = choices("chat", 16, gpus=0)
    assert found
    assert not any("gpu" in c.manifest["spec"] for c in found)
    assert not any(c.source.engine is Engine.VLLM for c in found)
    assert choices("chat", 16, gpus=0, engine=Engine.VLLM) == []


def test_gpus_that_cannot_share_a_model_are_not_asked_to() -> None:
    found = {c.entry.name: c for c in choices("coding", 24, gpus=3, engine=Engine.VLLM)}
    assert "qwen2.5-coder-7b" not in found  # 28 heads
    assert found == {}
    assert choices("coding", 24, gpus=2, engine=Engine.VLLM)


@settings(max_examples=20, deadline=None)
@given(
    task=st.sampled_from(list(Task)),
    gib=st.integers(1, 192),
    gpus=st.sampled_from([0, 1, 2, 4, 8]),
    context=st.sampled_from([512, 4096, 8192, 32768, 131072]),
)
def test_whatever_is_recommended_fits_and_is_valid(task: Task, gib: int, gpus: int, context: int) -> None:
    for choice in recommend(catalogue(), Wish(task, gib * GIB, gpus, context)):
        assert choice.estimate.needs <= choice.estimate.has
        assert context <= choice.most
        spec = LLMBackend.parse(choice.manifest).spec
        assert spec.models[0].context_length == context
        assert spec.storage_bytes > choice.estimate.weights


def call(*args: str) -> Result:
    return CliRunner().invoke(main, ["models", "--recommend", *args])


def test_table_says_why() -> None:
    done = call("--task", "coding", "--gpu", "24Gi")
    assert done.exit_code == 0, done.output
    first = done.output.splitlines()[1]
    assert first.startswith("qwen2.5-coder-32b")
    assert "made for coding" in first
    assert "18.0 GiB + 2.0 for 8192 tokens + 1 of the engine's own, of 21.6" in first


def test_yaml_is_a_backend_that_is_accepted() -> None:
    done = call("--task", "coding", "--gpu", "24Gi", "--engine", "VLLM", "--context-length", "4k", "-o", "yaml")
    body = yaml.safe_load(done.output)
    backend = LLMBackend.parse(body)
    assert backend.meta.name == "qwen2-5-coder-32b"
    assert backend.spec.models[0].context_length == 4096
    picked = call("--task", "chat", "--gpu", "24Gi", "--pick", "gemma3-4b", "-o", "yaml")
    assert yaml.safe_load(picked.output)["metadata"]["name"] == "gemma3-4b"


def test_json_has_the_source() -> None:
    rows = json.loads(call("--task", "embeddings", "--memory", "4Gi", "-o", "json").output)
    assert {r["engine"] for r in rows} == {"Ollama"}
    assert all(r["source"].startswith("ollama://") for r in rows)


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        ((), 2, "--gpu 24Gi"),
        (("--gpu", "24Gi", "--memory", "16Gi"), 2, "--gpu 24Gi"),
        (("--memory", "16Gi", "--gpus", "2"), 2, "--gpu 24Gi"),
        (("--gpu", "a-lot"), 2, "no size such as 24Gi"),
        (("--gpu", "24"), 2, "no size such as 24Gi"),
        (("--gpu", "24Gi", "--context-length", "long"), 2, "no number of tokens"),
        (("--gpu", "1Gi", "--task", "coding"), 1, "no model of the catalogue fits"),
        (("--gpu", "24Gi", "--pick", "gpt-9"), 1, "gpt-9 does not fit"),
    ],
)
def test_what_cannot_be_done_is_said(args: tuple[str, ...], code: int, words: str) -> None:
    done = call(*args)
    assert done.exit_code == code
    assert words in done.output


def test_flags_of_a_wish_need_it() -> None:
    done = CliRunner().invoke(main, ["models", "--task", "coding", "-o", "yaml"])
    assert done.exit_code == 2
    assert "--task, -o yaml needs --recommend" in done.output
