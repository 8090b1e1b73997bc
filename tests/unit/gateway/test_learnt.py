"""What is remembered of backends beside their health, and for how long."""

from __future__ import annotations

from pointsman.gateway.relay.learnt import KEPT_IDS, UNKNOWN_SECONDS, KeptAnswers, UnknownOperations


def test_the_oldest_answers_are_forgotten_first() -> None:
    kept = KeptAnswers()
    for n in range(KEPT_IDS):
        kept.remember(f"resp_{n}", "pod-1")
    kept.remember("resp_0", "pod-2")
    kept.remember("resp_new", "pod-1")
    assert kept.place("resp_0") == "pod-2", "continued again, so young again"
    assert kept.place("resp_1") is None
    assert kept.place("resp_2") == "pod-1"
    assert kept.place("resp_new") == "pod-1"


def test_an_unknown_operation_is_asked_for_again_after_a_while() -> None:
    unknown = UnknownOperations()
    assert unknown.none
    unknown.add("a", "responses", 100.0)
    unknown.add("b", "embeddings", 110.0)
    assert unknown.backends("responses", 100.0) == ["a"]
    assert unknown.backends("embeddings", 100.0) == ["b"]
    assert unknown.backends("text_completion", 100.0) == []
    assert unknown.backends("responses", 100.0 + UNKNOWN_SECONDS) == []
    assert unknown.backends("embeddings", 110.0 + UNKNOWN_SECONDS) == []
    assert unknown.none, "and costs nothing any more"
    unknown.add("a", "responses", 300.0)
    unknown.forget()
    assert unknown.none
