"""Text completions, embeddings and responses take the same way as chats: held back, judged, moved on, counted."""

from __future__ import annotations

from typing import Any

import pytest
from tests.gateway.operations.asking import (
    ask,
    completed,
    created,
    delta,
    line,
    refuses,
    response,
    text,
    vectors,
    whole,
)
from tests.support.raw_client import connected
from tests.support.running_gateway import SHORT
from tests.support.simulated import simulated

from pointsman.dialects.openai_operations import OPERATIONS
from pointsman.simulator.behaviour import Act, Behaviour, streams

ITEM = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "b"}]}
USED = {"input_tokens": 2, "output_tokens": 3, "total_tokens": 5}
GOOD: dict[str, Any] = {
    "completions": text("b"),
    "embeddings": vectors([0.5]),
    "responses": response("b"),
    "responses/compact": {"id": "resp_1", "object": "response.compaction", "output": [ITEM], "usage": USED},
    "responses/input_tokens": {"object": "response.input_tokens", "input_tokens": 7},
}
GOOD_STREAMS: dict[str, tuple[Any, ...]] = {
    "completions": (text("b", None), text("", "stop"), b"[DONE]", Act.END),
    "responses": (created(), delta("b"), completed("b"), Act.END),
}
EMPTY: dict[str, Any] = {
    "completions": text(""),
    "embeddings": vectors(),
    "responses": response(""),
    "responses/compact": {"object": "response.compaction", "output": []},
    "responses/input_tokens": {"object": "response.input_tokens", "input_tokens": None},
}

BAD: dict[str, Behaviour] = {
    "500": refuses(500),
    "429": refuses(429),
    "no such path": whole({"detail": "Not Found"}, 404),
    "method": whole({"detail": "Method Not Allowed"}, 405),
    "unsupported": refuses(400, "this model does not support embeddings, completions or responses"),
    "something else": whole({"message": "welcome"}),
    "error under 200": refuses(200),
}


@pytest.mark.parametrize("operation", list(GOOD))
@pytest.mark.parametrize("fault", [*BAD, "empty"])
async def test_answer_that_serves_nobody_moves_the_request_on(operation: str, fault: str) -> None:
    bad = whole(EMPTY[operation]) if fault == "empty" else BAD[fault]
    async with simulated("a", bad) as a, simulated("b", whole(GOOD[operation])) as b, line(a, b) as g:
        got = await ask(g.port, operation)
        assert got.status == 200, got.body
        assert got.json == GOOD[operation], "the answer goes on as it came"
        assert (got.headers["x-pointsman-backend"], got.headers["x-pointsman-attempts"]) == ("b", "2")
        assert b.seen[0].path == f"/v1/{operation}"
        assert b.seen[0].json["model"] == "m"


@pytest.mark.parametrize("operation", list(GOOD_STREAMS))
@pytest.mark.parametrize(
    "bad",
    [
        (Act.END,),
        (text("", None), created(), Act.CUT),
        (text("", None), created(), Act.SILENCE),
        (b"{", Act.END),
        ({"error": {"message": "boom"}}, Act.END),
        ({"type": "error", "message": "boom", "error": {"message": "boom"}}, Act.END),
        (text("", "stop"), {"type": "response.completed", "response": response("")}, b"[DONE]", Act.END),
    ],
)
async def test_stream_without_content_moves_the_request_on(operation: str, bad: tuple[Any, ...]) -> None:
    good = streams(*GOOD_STREAMS[operation])
    times = SHORT if Act.SILENCE in bad else {}
    async with simulated("a", streams(*bad)) as a, simulated("b", good) as b, line(a, b, timeouts=times) as g:
        got = await ask(g.port, operation, stream=True)
        assert got.status == 200
        assert got.whole
        assert got.headers["x-pointsman-backend"] == "b"
        assert got.events[-1] == ("[DONE]" if operation == "completions" else completed("b"))


@pytest.mark.parametrize(
    ("operation", "pieces"),
    [
        ("completions", (text("one", None), Act.CUT)),
        ("completions", (text("one", None), Act.END)),
        ("responses", (created(), delta("one"), Act.CUT)),
        ("responses", (created(), delta("one"), Act.END)),
        ("responses", (created(), delta("one"), Act.SILENCE)),
        (
            "responses",
            (created(), delta("one"), {"type": "response.failed", "response": {"status": "failed"}}, Act.END),
        ),
    ],
)
async def test_break_after_content_is_said_in_the_stream(operation: str, pieces: tuple[Any, ...]) -> None:
    times = SHORT if Act.SILENCE in pieces else {}
    async with simulated("a", streams(*pieces)) as a, simulated("b") as b, line(a, b, timeouts=times) as g:
        got = await ask(g.port, operation, stream=True)
        assert got.whole, "a clean end of the body"
        last = got.events[-1]
        assert "the answer was cut short" in last["error"]["message"]
        if operation == "responses":
            assert (last["type"], last["sequence_number"]) == ("error", len(got.events) - 1 + ("failed" in str(pieces)))
        assert "[DONE]" not in got.events
        assert not b.seen


@pytest.mark.parametrize("operation", [*GOOD, "chat/completions"])
async def test_callers_own_mistake_goes_back_to_the_caller(operation: str) -> None:
    async with simulated("a", refuses(400, "input must not be empty")) as a, simulated("b") as b, line(a, b) as g:
        got = await ask(g.port, operation)
        assert (got.status, got.message) == (400, "input must not be empty")
        assert not b.seen


@pytest.mark.parametrize("operation", ["completions", "responses", "chat/completions"])
async def test_callers_mistake_that_is_said_in_a_stream_is_an_answer(operation: str) -> None:
    said = {"message": "temperature must be at most 2", "type": "BadRequestError", "code": 400}
    async with simulated("a", streams({"error": said}, Act.END)) as a, simulated("b") as b, line(a, b) as g:
        got = await ask(g.port, operation, stream=True)
        assert (got.status, got.message) == (400, "temperature must be at most 2")
        assert got.headers["content-type"] == "application/json"
        assert not b.seen


async def test_operation_that_a_backend_does_not_know_is_remembered() -> None:
    nothing = whole({"detail": "Not Found"}, 404)
    async with simulated("a", nothing) as a, simulated("b", whole(response("b"))) as b, line(a, b) as g:
        for attempts in ("2", "1", "1"):
            got = await ask(g.port, "responses")
            assert (got.headers["x-pointsman-backend"], got.headers["x-pointsman-attempts"]) == ("b", attempts)
        assert len(a.seen) == 1
        assert g.machine("a").state == "Unknown", "it is not ill"
        assert len(g.fallbacks) == 1, "passing over who cannot take a request is no fallback"
        a.script = (whole(text("a")),)
        assert (await ask(g.port, "completions")).headers["x-pointsman-backend"] == "a", "it is about one operation"
        g.state.set_table(g.state.table)
        a.script = (whole(response("a")),)
        assert (await ask(g.port, "responses")).headers["x-pointsman-backend"] == "a", "a new table: asked again"


async def test_operation_that_nobody_knows_gets_the_first_answer_each_time() -> None:
    nothing = whole({"detail": "none here"}, 404)
    async with simulated("a", nothing) as a, simulated("b", whole({}, 405)) as b, line(a, b) as g:
        for n in (1, 2):
            got = await ask(g.port, "embeddings")
            assert (got.status, got.json) == (404, {"detail": "none here"})
            assert (len(a.seen), len(b.seen)) == (n, n)


async def test_large_answer_is_passed_on() -> None:
    """2,048 inputs of 1,536 dimensions are some 30 MB: more than is judged whole."""
    many = vectors(*[[0.125] * 1536] * 1000)
    async with simulated("a", whole(many)) as a, line(a) as g:
        got = await ask(g.port, "embeddings")
        assert got.whole
        assert got.json == many


async def test_every_operation_is_counted_by_its_name() -> None:
    async with simulated("a", *(whole(GOOD[o]) for o in GOOD)) as a, line(a) as g:
        for operation in GOOD:
            await ask(g.port, operation)
        await ask(g.port, "models", method="GET")
        records = g.meter.requests
        assert [r.operation for r in records] == [
            "text_completion", "embeddings", "responses", "responses.compact", "responses.input_tokens", "models",
        ]  # fmt: skip
        counted = [(r.prompt_tokens, r.completion_tokens) for r in records[:5]]
        assert counted == [(None, None), (2, None), (2, 3), (2, 3), (None, None)]
        assert (records[5].status, records[5].verdict, records[5].route) == (200, "Success", "")


# ---- addresses and methods


@pytest.mark.parametrize("operation", [o.path[1:] for o in OPERATIONS])
async def test_methods(operation: str) -> None:
    async with simulated("a") as a, line(a) as g:
        listed = operation == "chat/completions"
        allowed = "POST, GET, OPTIONS" if listed else "POST, OPTIONS"
        for method in ("HEAD", "DELETE", "PUT", *(() if listed else ("GET",))):
            got = await ask(g.port, operation, method=method)
            assert (got.status, got.headers["allow"]) == (405, allowed)
        got = await ask(g.port, operation, method="OPTIONS")
        assert (got.status, got.headers["allow"]) == (204, allowed)
        assert "content-length" not in got.headers
        assert not a.seen


@pytest.mark.parametrize(
    ("where", "hint"),
    [
        (
            "v1/foo",
            "there is POST /v1/chat/completions, /v1/completions, /v1/embeddings, /v1/responses, "
            "/v1/responses/compact, /v1/responses/input_tokens, GET /v1/models",
        ),
        ("chat/completions", "the base URL of a client ends in /v1 here"),
        ("models", "the base URL of a client ends in /v1 here"),
        ("v1/conversations/conv_1", "conversations are not relayed: ask the backend itself"),
    ],
)
async def test_unknown_address_says_what_there_is(where: str, hint: str) -> None:
    async with simulated("a") as a, line(a) as g:
        async with connected(g.port) as client:
            await client.send(f"POST /{where} HTTP/1.1\r\nhost: g\r\ncontent-length: 2\r\n\r\n{{}}".encode())
            got = await client.receive()
        error = got.json["error"]
        assert (got.status, error["type"], error["code"]) == (404, "invalid_request_error", "unknown_url")
        assert error["message"] == f"Unknown request URL: POST /{where}: {hint}"
        assert got.headers["x-should-retry"] == "false"
