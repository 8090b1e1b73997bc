"""What of our two kinds routing sees, and when it reads them again."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from pointsman.api.objects import LLMBackend, sentence
from pointsman.domain.parsed import Parsed, trimmed


def never(name: str, error: ValidationError) -> None:
    raise AssertionError(f"{name} can be read: {error}")


def backend(generation: int = 1, **parts: Any) -> dict[str, Any]:
    spec = {"engine": "Ollama", "models": [{"name": "m", "source": "ollama://m"}], "env": [{"name": "A", "value": "b"}]}
    return {
        "metadata": {"name": "local", "uid": "u", "generation": generation, "managedFields": [{}], "annotations": {}},
        "spec": spec,
        **parts,
    }


def test_what_is_kept_of_an_object_has_no_environment() -> None:
    status = {"models": [{"name": "m", "digest": "sha256:1", "progress": "50 %"}], "replicas": 3}
    kept = trimmed(backend(status=status))
    assert "env" not in kept["spec"]
    assert kept["metadata"] == {"name": "local", "uid": "u", "generation": 1}
    assert kept["status"] == {"models": [{"name": "m", "digest": "sha256:1"}]}


def test_an_object_is_read_again_only_when_routing_could_differ() -> None:
    parsed = Parsed(LLMBackend.parse, never)
    (first,) = parsed.of([backend(status={"models": [{"name": "m", "progress": "1 %"}]})])
    (same,) = parsed.of([backend(status={"replicas": 2, "models": [{"name": "m", "progress": "2 %"}]})])
    assert same is first
    (pulled,) = parsed.of([backend(status={"models": [{"name": "m", "digest": "sha256:" + "a" * 64}]})])
    assert pulled.status.models[0].digest
    (later,) = parsed.of([backend(generation=2)])
    assert later.meta.generation == 2
    assert parsed.of([]) == []


def test_an_object_that_cannot_be_read_is_left_out_and_told_once_of_each_version() -> None:
    told = []
    parsed = Parsed(LLMBackend.parse, lambda name, error: told.append((name, sentence(error))))
    for generation in (1, 1, 1, 2):
        bad = backend(generation)
        bad["metadata"]["name"], bad["spec"]["engine"] = "bad", "Quantum"
        assert [b.meta.name for b in parsed.of([bad, backend()])] == ["local"]
    assert [name for name, _ in told] == ["bad", "bad"]
    assert told[0][1].startswith("spec.engine")
