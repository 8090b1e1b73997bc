"""Who keeps what is asked for by its id."""

from __future__ import annotations

import pytest
from tests.support.running_gateway import external, route, table

from pointsman.api.objects import LLMBackend
from pointsman.domain.stored import MOST, keepers, shelves
from pointsman.domain.table import Keeps


def engine(name: str) -> LLMBackend:
    source = {"Ollama": "ollama://m:1", "VLLM": "hf://org/m"}[name]
    spec = {"engine": name, "models": [{"name": "m", "source": source}]}
    return LLMBackend.parse({"metadata": {"name": name.lower()}, "spec": spec})


@pytest.mark.parametrize(
    ("backend", "keeps"),
    [
        (external("x", "http://a/v1"), Keeps.BY_ID),
        (external("x", "http://a/v1", stored="All"), Keeps.ALL),
        (external("x", "http://a/v1", stored="None"), Keeps.NOTHING),
        (engine("VLLM"), Keeps.BY_ID),
        (engine("Ollama"), Keeps.NOTHING),
    ],
)
def test_what_may_be_reached(backend: LLMBackend, keeps: Keeps) -> None:
    assert table([backend], []).backends[backend.meta.name].keeps is keeps


def test_who_is_known_to_keep_it_goes_first_and_who_is_ill_last() -> None:
    made = table([external(n, f"http://{n}/v1") for n in "abc"], [route("a", "b", "c")])
    assert [b.name for b in keepers(made)] == ["a", "b", "c"]
    key = {n: b.endpoints[0].key for n, b in made.backends.items()}
    places = shelves(keepers(made), key["c"], lambda e: e.backend != "a")
    assert [p.backend.name for p in places] == ["c", "b", "a"]
    places = shelves(keepers(made), key["a"], lambda e: e.backend != "a")
    assert [p.backend.name for p in places] == ["a", "b", "c"], "nobody else has it, ill or not"


def test_not_everybody_is_asked() -> None:
    many = [external(f"b{n}", f"http://b{n}/v1") for n in range(MOST + 5)]
    made = table(many, [route(*(b.meta.name for b in many[:16])), *()])
    assert len(keepers(made)) == 16, "only those to which a route leads"
    assert len(shelves(list(made.backends.values()), None, lambda _: True)) == MOST
