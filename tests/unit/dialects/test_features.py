"""What routing may ask of a request, as it is read from its bytes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.api.route import Needed, TaskType
from pointsman.dialects.features import IMAGE_TOKENS, TASK_NAMES, RequestFeatures
from pointsman.dialects.openai import TASK_FIELD, compose, parse_chat
from pointsman.dialects.openai_embeddings import parse_embedding
from pointsman.dialects.openai_operations import EMBEDDINGS
from pointsman.dialects.request import ChatRequest, Complaint

IMAGE = {"type": "image_url", "image_url": {"url": "u"}}
USER = {"role": "user", "content": "hi"}


def read(value: Any, headers: dict[bytes, bytes] | None = None, id_: bytes = b"r") -> RequestFeatures:
    request = parse_chat(json.dumps({"model": "m", **value}).encode())
    assert isinstance(request, ChatRequest)
    return RequestFeatures(request, headers or {}, id_)


@pytest.mark.parametrize(
    ("value", "needs"),
    [
        ({"messages": [USER]}, set()),
        ({"messages": [USER], "tools": []}, set()),
        ({"messages": [USER], "tools": None}, set()),
        ({"messages": [USER], "tools": [{"type": "function"}]}, {Needed.TOOLS}),
        ({"messages": [USER], "functions": [{"name": "f"}]}, {Needed.TOOLS}),
        ({"messages": [{"role": "user", "content": [IMAGE]}]}, {Needed.VISION}),
        ({"messages": [{"role": "user", "content": 'write {"type":"image_url"} for me'}]}, set()),
    ],
)  # fmt: skip
def test_needs(value: Any, needs: set[Needed]) -> None:
    assert read(value).needs == needs


def test_embeddings_need_who_embeds() -> None:
    request = parse_embedding(b'{"model":"m","input":"hi"}')
    assert isinstance(request, ChatRequest)
    assert RequestFeatures(request, {}, b"r", EMBEDDINGS.needs).needs == {Needed.EMBEDDINGS}


def test_a_task_type_of_embeddings_is_the_backends_own() -> None:
    request = parse_embedding(b'{"model":"m","input":"hi","task_type":"RETRIEVAL_QUERY"}')
    assert isinstance(request, ChatRequest)
    assert request.task is None
    assert json.loads(compose(request, "m"))["task_type"] == "RETRIEVAL_QUERY"


def test_prompt_tokens_are_a_quarter_of_the_text_and_images_count_by_themselves() -> None:
    assert 990 < read({"messages": [{"role": "user", "content": "wor " * 1000}]}).prompt_tokens < 1030
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 400_000}}
    tokens = read({"messages": [{"role": "user", "content": [picture]}]}).prompt_tokens
    assert IMAGE_TOKENS < tokens < IMAGE_TOKENS + 50
    assert read({}).prompt_tokens == 1


def test_a_conversation_keeps_its_beginning() -> None:
    turns = [{"role": "system", "content": "s"}, USER]
    begun = read({"messages": turns}).prefix
    assert read({"messages": [*turns, {"role": "assistant", "content": "a"}, USER]}).prefix == begun
    assert read({"messages": [{"role": "system", "content": "t"}, USER]}).prefix != begun
    long = "x" * 9000
    same = [read({"messages": [{"role": "user", "content": long + end}]}).prefix for end in "ab"]
    assert same[0] == same[1], "what comes later does not matter"


def test_the_caller_is_known_by_header_then_by_body() -> None:
    assert read({"user": "ann"}, {b"x-user": b"bob"}).key(b"x-user") == "bob"
    assert read({"user": "ann"}).key(b"x-user") == "ann"
    assert read({"safety_identifier": "cat"}).key(None) == "cat"
    assert read({"user": 7}).key(None) is None
    assert read({"user": ""}).key(None) is None


def test_a_caller_whose_name_is_no_text_is_a_caller_all_the_same() -> None:
    for name in (b"\xff\xfe", rb"\ud800"):
        request = parse_chat(b'{"model":"m","user":"%b"}' % name)
        if isinstance(request, ChatRequest):
            features = RequestFeatures(request, {}, b"r")
            assert features.key(None)
            assert features.key(None) == features.key(None)


def test_chance_is_the_ids() -> None:
    assert read({}, id_=b"a").seed == read({"user": "x"}, id_=b"a").seed != read({}, id_=b"b").seed


@pytest.mark.parametrize(("name", "task"), TASK_NAMES.items())
def test_each_task_has_its_name(name: str, task: TaskType) -> None:
    assert read({"task_type": name}).task is task


def test_task_names_are_those_of_the_documents() -> None:
    assert list(TASK_NAMES) == [
        "code_generation", "code_analysis", "reasoning", "general_chat", "planning", "text_generation",
    ]  # fmt: skip


@pytest.mark.parametrize("value", [b'"poetry"', b"7", b"[]", b'"CodeGeneration"', b'"\xff"', b'""'])
def test_other_tasks_are_refused(value: bytes) -> None:
    found = parse_chat(b'{"model":"m","task_type":%b}' % value)
    assert isinstance(found, Complaint)
    assert (found.status, found.param) == (400, TASK_FIELD)


KEYS = st.lists(st.sampled_from(["messages", "stream", "stream_options", "user", "x"]), unique=True)
VALUES = {
    "messages": [USER],
    "stream": True,
    "stream_options": {"include_usage": False},
    "user": "a",
    "x": {"task_type": 1},
}


@given(KEYS, st.integers(0, 5), st.integers(0, 5), st.sampled_from([None, 2]), st.sampled_from(list(TASK_NAMES)))
def test_the_field_goes_and_nothing_else_changes(
    keys: list[str], at: int, model_at: int, indent: int | None, name: str
) -> None:
    members = [(k, VALUES[k]) for k in keys]
    members.insert(at, (TASK_FIELD, name))
    members.insert(model_at, ("model", "m"))
    request = parse_chat(json.dumps(dict(members), indent=indent).encode())
    assert isinstance(request, ChatRequest)
    assert request.task is TASK_NAMES[name]
    rest = {k: v for k, v in members if k != TASK_FIELD}
    assert json.loads(compose(request, "sent")) == {**rest, "model": "sent"}
    assert list(json.loads(request.body)) == list(rest)
