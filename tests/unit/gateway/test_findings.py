"""Which backends and routes findings make, and that what was found does not come and go."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.api.objects import LLMBackend, ModelRoute
from pointsman.gateway.sources.files import compile_manifests
from pointsman.gateway.sources.findings import (
    FORGET_SECONDS,
    USUAL_PORTS,
    Finding,
    Kind,
    backend_body,
    kind_of,
    remember,
    route_body,
    usable,
    with_found,
)
from pointsman.gateway.sources.manifests import EMPTY, Manifests

HOST = "127.0.0.1"


def finding(kind: Kind, *models: str, host: str = HOST, port: int | None = None) -> Finding:
    return Finding(kind, host, port or USUAL_PORTS.get(kind, 5000), models)


def made(*findings: Finding, hosts: tuple[str, ...] = (HOST,), manifests: Manifests = EMPTY) -> Manifests:
    return with_found(findings, hosts, manifests)


def routed(manifests: Manifests) -> dict[tuple[str, ...], list[tuple[str, str]]]:
    return {r.spec.models: [(t.backend, t.model) for t in r.spec.targets] for r in manifests.routes.values()}


def test_each_name_gets_one_route_over_all_servers_that_have_it() -> None:
    found = made(
        finding(Kind.OLLAMA, "phi4:mini", "qwen3:8b"), finding(Kind.LM_STUDIO, "qwen3:8b"), finding(Kind.VLLM, "big")
    )
    assert routed(found) == {
        ("big",): [("vllm", "big")],
        ("phi4:mini",): [("ollama", "phi4:mini")],
        ("qwen3:8b",): [("lm-studio", "qwen3:8b"), ("ollama", "qwen3:8b")],
    }
    assert [t.priority for t in found.routes["qwen3-8b"].spec.targets] == [0, 1]
    assert found.backends["lm-studio"].spec.external is not None
    assert found.backends["lm-studio"].spec.external.url == "http://127.0.0.1:1234/v1"


def test_those_that_hold_the_model_in_memory_come_first_and_hosts_before_that() -> None:
    found = made(
        finding(Kind.VLLM, "m", host="box"), *(finding(kind, "m") for kind in reversed(Kind)), hosts=(HOST, "box")
    )
    assert [b for b, _ in routed(found)["m",]] == [
        "vllm", "llama-cpp", "lm-studio", "ollama", "server-5000", "vllm-box",
    ]  # fmt: skip


def test_of_two_alike_the_one_on_its_usual_port_is_first() -> None:
    found = made(finding(Kind.OLLAMA, "m", port=8000), finding(Kind.OLLAMA, "m"))
    assert routed(found) == {("m",): [("ollama", "m"), ("ollama-8000", "m")]}


def test_ollamas_latest_is_asked_for_without_its_tag_too() -> None:
    found = made(finding(Kind.OLLAMA, "llama3.2:latest"), finding(Kind.LM_STUDIO, "llama3.2"))
    assert routed(found) == {
        ("llama3.2", "llama3.2:latest"): [("lm-studio", "llama3.2"), ("ollama", "llama3.2:latest")]
    }


def test_manifests_win_on_names() -> None:
    mine = Manifests(
        {"ollama": LLMBackend.parse(backend_body("ollama", finding(Kind.VLLM, "x"), ["x"]))},
        {"mine": ModelRoute.parse(route_body("mine", ["chat", "qwen3"], [("ollama", "x")]))},
        {},
    )
    both = made(finding(Kind.OLLAMA, "qwen3:latest", "phi4"), manifests=mine)
    assert routed(both) == {("chat", "qwen3"): [("ollama", "x")], ("phi4",): [("ollama-2", "phi4")]}
    assert both.backends["ollama"] is mine.backends["ollama"]
    assert both.backends["ollama-2"].spec.models[0].name == "phi4", "what no route needs is not listed"
    assert made(finding(Kind.OLLAMA, "qwen3"), manifests=mine) == mine, "nothing is left to add"


def test_a_server_of_many_models_is_several_backends() -> None:
    names = [f"m{i:03}" for i in range(70)]
    found = made(finding(Kind.OLLAMA, *names))
    assert {name: len(b.spec.models) for name, b in found.backends.items()} == {
        "ollama": 32,
        "ollama-2": 32,
        "ollama-3": 6,
    }
    assert len(compile_manifests(found).names) == 70


def test_what_changed_gets_the_next_generation_and_the_rest_stays() -> None:
    first = made(finding(Kind.OLLAMA, "a"), finding(Kind.VLLM, "b"))
    more = with_found([finding(Kind.OLLAMA, "a", "c"), finding(Kind.VLLM, "b")], (HOST,), EMPTY, first)
    assert (more.backends["ollama"].meta.generation, more.backends["vllm"].meta.generation) == (2, 1)
    assert with_found([finding(Kind.OLLAMA, "a", "c"), finding(Kind.VLLM, "b")], (HOST,), EMPTY, more) == more


def test_a_silent_server_is_kept_for_a_while_and_another_takes_its_place_at_once() -> None:
    ollama, other = finding(Kind.OLLAMA, "a"), finding(Kind.OTHER, "b", port=11434)
    known = remember((), [ollama], 0.0)
    silent = remember(known, [], FORGET_SECONDS - 1)
    assert [s.finding for s in silent] == [ollama]
    assert remember(silent, [], FORGET_SECONDS) == ()
    assert [s.finding for s in remember(known, [other], 1.0)] == [other]


@pytest.mark.parametrize(
    ("owners", "server", "kind"),
    [
        (["vllm"], "uvicorn", Kind.VLLM),
        (["llamacpp"], "", Kind.LLAMA_CPP),
        ([], "llama.cpp", Kind.LLAMA_CPP),
        (["organization_owner"], "", Kind.LM_STUDIO),
        (["library"], "", None),
        (["me"], "uvicorn", None),
        (["vllm", "llamacpp"], "", None),
    ],
)
def test_owner_and_header_tell_who_it_is(owners: list[str], server: str, kind: Kind | None) -> None:
    assert kind_of([{"id": "m", "owned_by": o} for o in owners], server) == kind


def test_names_that_no_route_may_have_are_left_out() -> None:
    assert usable(["ok/x:1b", "", "a b", "x" * 129, "ok/x:1b", "-x"]) == ("ok/x:1b",)


NAMES = st.sampled_from(["a", "a:latest", "b", "A", "1b", "a/b", "a.b", "x" * 128])
FINDINGS = st.lists(
    st.builds(
        lambda kind, host, port, models: Finding(kind, host, port, tuple(sorted(models))),
        st.sampled_from(Kind), st.sampled_from([HOST, "box", "10.0.0.1"]), st.sampled_from([1, 8000, 11434]),
        st.sets(NAMES),
    ),
    max_size=9,
    unique_by=lambda f: f.address,
)  # fmt: skip


@given(FINDINGS)
def test_whatever_is_found_compiles_without_a_clash_or_a_broken_target(findings: list[Finding]) -> None:
    hosts = (HOST, "box", "10.0.0.1")
    found = with_found(findings, hosts, EMPTY)
    table = compile_manifests(found)
    assert table.clashes == ()
    assert not any(r.broken for r in table.routes.values())
    assert {m for f in findings for m in f.models} <= set(table.names)
    assert with_found(list(reversed(findings)), hosts, EMPTY) == found, "the order of finding does not matter"
