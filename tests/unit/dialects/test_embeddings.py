"""Embeddings: an answer is worth something when every one of them holds something."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pointsman.dialects.openai import compose
from pointsman.dialects.openai_embeddings import judge_embeddings, parse_embedding
from pointsman.dialects.request import ChatRequest, Complaint
from pointsman.dialects.usage import Usage
from pointsman.domain.verdict import Why

ASKED = ChatRequest(b"", "e", False, False, False, (0, 0), None)


def row(embedding: object) -> dict[str, object]:
    return {"object": "embedding", "index": 0, "embedding": embedding}


@pytest.mark.parametrize("asked", ["a", ["a", "b"], [1, 2], [[1], [2]]])
def test_only_the_model_changes(asked: object) -> None:
    value = {"input": asked, "model": "e", "encoding_format": "base64", "dimensions": 3}
    request = parse_embedding(json.dumps(value).encode())
    assert isinstance(request, ChatRequest)
    assert json.loads(compose(request, "nomic", ask_usage=True)) == value | {"model": "nomic"}


def test_stream_means_nothing() -> None:
    request = parse_embedding(b'{"model":"e","input":"x","stream":true}')
    assert isinstance(request, ChatRequest)
    assert not request.stream


def test_body_without_a_model() -> None:
    found = parse_embedding(b'{"input":"x"}')
    assert isinstance(found, Complaint)
    assert (found.status, found.param) == (400, "model")


ANSWERS: list[tuple[Any, Why]] = [
    ({"data": [row([0.1, -2e-3])]}, Why.ANSWERED),
    ({"data": [row("AAAAAA==")]}, Why.ANSWERED),
    ({"data": []}, Why.EMPTY),
    ({"data": None}, Why.EMPTY),
    ({}, Why.EMPTY),
    ({"data": [row([0.1]), row([])]}, Why.EMPTY),
    ({"data": [row("")]}, Why.EMPTY),
    ({"data": [{"index": 0}]}, Why.EMPTY),
    ({"data": "x"}, Why.BROKEN_JSON),
    ({"error": {"message": "boom"}}, Why.ERROR_EVENT),
    ({"data": [row([1])], "error": None}, Why.ANSWERED),
    ([], Why.BROKEN_JSON),
]


@pytest.mark.parametrize(("value", "why"), ANSWERS)
def test_worth_of_an_answer(value: Any, why: Why) -> None:
    assert judge_embeddings(json.dumps(value).encode(), ASKED)[0].why is why


def test_cut_answer_is_broken() -> None:
    whole = json.dumps({"data": [row([0.1] * 50)]}).encode()
    assert judge_embeddings(whole[:200], ASKED)[0].why is Why.BROKEN_JSON


@pytest.mark.parametrize(
    ("usage", "known"),
    [
        ({"prompt_tokens": 4, "total_tokens": 4}, Usage(4, None)),
        (None, None),
        ("x", None),
        ({"prompt_tokens": "x"}, None),
    ],
)
def test_usage(usage: object, known: Usage | None) -> None:
    assert judge_embeddings(json.dumps({"data": [row([1])], "usage": usage}).encode(), ASKED)[1] == known
