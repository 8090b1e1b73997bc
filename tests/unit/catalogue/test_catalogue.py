"""The catalogue's data: whole, and in agreement with what is published."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from tests.unit.controllers.cluster import backend

from pointsman.api.engine import Engine
from pointsman.api.model import Capability
from pointsman.api.sources.source import SCHEMES, parse_source
from pointsman.catalogue.catalogue import GIB, Entry, Form, Task, catalogue
from pointsman.catalogue.recommend import Wish, manifest
from pointsman.controllers.settings import VLLM
from pointsman.engines.drivers import DRIVERS

ENTRIES = {e.name: e for e in catalogue()}
SIZES_OF_OLLAMA = {
    "llama3.2-3b": 2.0, "llama3.1-8b": 4.9, "llama3.3-70b": 43, "qwen2.5-7b": 4.7, "qwen2.5-14b": 9.0,
    "qwen2.5-32b": 20, "qwen2.5-72b": 47, "qwen2.5-coder-7b": 4.7, "qwen2.5-coder-32b": 20, "qwen3-4b": 2.6,
    "qwen3-8b": 5.2, "qwen3-14b": 9.3, "qwen3-32b": 20, "qwen3-30b-a3b-instruct": 19, "qwen3-coder-30b": 19,
    "gemma3-12b": 8.1, "gemma3-27b": 17, "mistral-7b": 4.4, "phi-4": 9.1, "phi-4-mini": 2.5,
    "deepseek-r1-qwen-7b": 4.7, "deepseek-r1-qwen-14b": 9.0, "deepseek-r1-qwen-32b": 20, "deepseek-r1-llama-70b": 43,
    "gpt-oss-20b": 14, "gpt-oss-120b": 65, "nomic-embed-text": 0.274, "bge-m3": 1.2, "qwen3-embedding-4b": 2.5,
    "qwen3-embedding-8b": 4.7,
}  # fmt: skip
"""Gigabytes (10^9), as ollama.com/library lists the tags."""
PARSERS = yaml.safe_load((Path(__file__).parent / "vllm_parsers.yaml").read_text())


def test_every_parser_is_one_of_the_vllm_that_is_run() -> None:
    assert VLLM.endswith(f":v{PARSERS['version']}"), (
        "list the parsers of the new vLLM: python -m tests.e2e_vllm.parsers"
    )
    named = {(option, name) for e in catalogue() for option, name in e.vllm.items()}
    assert named
    assert {option for option, _ in named} == PARSERS.keys() - {"version"}
    assert [pair for pair in sorted(named) if pair[1] not in PARSERS[pair[0]]] == []


@pytest.mark.parametrize("name", SIZES_OF_OLLAMA)
def test_computed_sizes_are_those_that_are_published(name: str) -> None:
    (source,) = [s for s in ENTRIES[name].sources if s.engine is Engine.OLLAMA]
    assert ENTRIES[name].weights(source) / 1e9 == pytest.approx(SIZES_OF_OLLAMA[name], rel=0.16)


@pytest.mark.parametrize("entry", catalogue(), ids=lambda e: e.name)
def test_entry_is_whole(entry: Entry) -> None:
    kinds = {s.engine for s in entry.sources}
    assert Engine.OLLAMA in kinds
    for source in entry.sources:
        assert source.source.startswith(SCHEMES[source.engine])
        parse_source(source.source)
        assert source.gib is None or source.form is Form.MXFP4
        assert source.form is not Form.MXFP4 or source.gib
    embeds = Task.EMBEDDINGS in entry.tasks
    assert (entry.capabilities == (Capability.EMBEDDINGS,)) == embeds
    assert embeds or Capability.CHAT in entry.capabilities
    assert (Capability.CODE in entry.capabilities) == (entry.tasks == (Task.CODING,))
    if Engine.VLLM in kinds:
        assert (Capability.TOOLS in entry.capabilities) == ("toolCallParser" in entry.vllm) or entry.family == "Gemma 3"
        assert (Capability.REASONING in entry.capabilities) == ("reasoningParser" in entry.vllm)
    assert entry.window_layers < entry.layers
    assert bool(entry.window_layers) == bool(entry.window)


@pytest.mark.parametrize("entry", catalogue(), ids=lambda e: e.name)
def test_manifest_of_each_source_is_accepted(entry: Entry) -> None:
    for source in entry.sources:
        for gpus in (0, 2):
            body = manifest(entry, source, Wish(entry.tasks[0], 24 * GIB, gpus, 512))
            spec = backend(body["spec"]).spec
            assert DRIVERS[spec.engine].problem(spec) is None


def test_names_are_unique_and_there_is_something_for_everybody() -> None:
    assert len(ENTRIES) == len(catalogue()) >= 40
    for task in Task:
        assert {e.category for e in catalogue() if task in e.tasks} >= {"small", "medium"}
    assert {e.category for e in catalogue()} == {"small", "medium", "large"}


def test_figures_of_llama_are_the_well_known_ones() -> None:
    entry = ENTRIES["llama3.1-8b"]
    (source,) = [s for s in entry.sources if s.form is Form.BF16]
    figures = entry.figures(source)
    assert figures.kv * 2 == 128 << 10
    assert figures.weights / GIB == pytest.approx(14.96, rel=0.01)
