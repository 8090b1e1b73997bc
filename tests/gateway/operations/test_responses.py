"""Responses that may have acted, and responses that continue others: asked of one backend, or found again."""

from __future__ import annotations

from typing import Any

import pytest
from tests.gateway.operations.asking import ask, completed, created, delta, keeps, line, refuses, response, whole
from tests.support.running_gateway import SHORT
from tests.support.simulated import simulated

from pointsman.simulator.behaviour import Act, Behaviour, answers, sends, streams

UNTOUCHED: dict[str, Behaviour] = {
    "429": refuses(429),
    "401": refuses(401),
    "loading": refuses(503, "Loading model"),
    "no such model": refuses(404, "model 'm' not found"),
    "context": refuses(400, "maximum context length is 5 tokens"),
    "no such path": whole({"detail": "Not Found"}, 404),
}
PERHAPS_DONE: dict[str, Behaviour] = {
    "500": refuses(500),
    "502": answers(502, b"<html>bad gateway</html>", "text/html"),
    "reset": sends(Act.RESET),
    "silence": sends(Act.SILENCE),
    "cut": sends(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{", Act.CUT),
    "empty": whole(response("")),
    "error within": whole(response("", status="failed", error={"code": "rate_limit_exceeded", "message": "slow"})),
}


def patience(fault: Behaviour) -> dict[str, str]:
    return SHORT if fault is PERHAPS_DONE["silence"] else {}


ACTS: dict[str, dict[str, Any]] = {
    "stored": {"store": None},
    "in the background": {"background": True},
    "tool of the backend": {"tools": [{"type": "web_search"}]},
    "conversation": {"conversation": "conv_1"},
}


@pytest.mark.parametrize("fields", ACTS.values(), ids=ACTS)
@pytest.mark.parametrize("fault", UNTOUCHED.values(), ids=UNTOUCHED)
async def test_who_has_not_begun_is_followed_by_the_next(fault: Behaviour, fields: dict[str, Any]) -> None:
    good = whole(response("b", conversation={"id": "conv_1"}))
    async with simulated("a", fault) as a, simulated("b", good) as b, line(a, b) as g:
        got = await ask(g.port, "responses", **fields)
        assert (got.status, got.headers["x-pointsman-backend"]) == (200, "b")


async def test_who_refuses_connections_has_not_begun() -> None:
    async with simulated("a") as a, simulated("b", whole(response("b"))) as b, line(a, b) as g:
        await a.refuse()
        assert (await ask(g.port, "responses", store=True)).headers["x-pointsman-backend"] == "b"


@pytest.mark.parametrize("fields", ACTS.values(), ids=ACTS)
@pytest.mark.parametrize("fault", PERHAPS_DONE.values(), ids=PERHAPS_DONE)
async def test_who_may_have_begun_is_the_last(fault: Behaviour, fields: dict[str, Any]) -> None:
    async with simulated("a", fault) as a, simulated("b") as b, line(a, b, timeouts=patience(fault)) as g:
        got = await ask(g.port, "responses", **fields)
        assert got.status >= 200
        assert len(a.seen) == 1, "nor is the same backend asked twice"
        assert not b.seen
        assert g.meter.requests[0].attempts == 1


@pytest.mark.parametrize("fault", PERHAPS_DONE.values(), ids=PERHAPS_DONE)
async def test_a_mere_question_moves_on_from_all_of_them(fault: Behaviour) -> None:
    async with (
        simulated("a", fault) as a,
        simulated("b", whole(response("b"))) as b,
        line(a, b, timeouts=patience(fault)) as g,
    ):
        assert (await ask(g.port, "responses")).headers["x-pointsman-backend"] == "b"


async def test_what_may_act_goes_on_a_connection_of_its_own() -> None:
    """On one that was idle we might not know whether it was read."""
    async with simulated("a", whole(response("a"))) as a, line(a) as g:
        for _ in range(3):
            assert (await ask(g.port, "responses", store=True)).status == 200
        assert [request.reused for request in a.seen] == [False, False, False]
        assert (await ask(g.port, "responses")).status == 200
        assert a.seen[3].reused


# ---- what a request continues


@pytest.mark.parametrize("stream", [False, True])
async def test_what_is_continued_goes_to_who_keeps_it(stream: bool) -> None:
    async with simulated("a", refuses(429), keeps("a")) as a, simulated("b", keeps("b")) as b, line(a, b) as g:
        first = await ask(g.port, "responses", store=None, stream=stream)
        assert first.headers["x-pointsman-backend"] == "b"
        answer_id = first.events[-1]["response"]["id"] if stream else first.json["id"]
        seen = len(a.seen)
        for _ in range(2):
            more = await ask(g.port, "responses", store=None, stream=stream, previous_response_id=answer_id)
            assert (more.headers["x-pointsman-backend"], more.headers["x-pointsman-attempts"]) == ("b", "1")
        assert len(a.seen) == seen


async def test_who_keeps_it_is_not_replaced_when_it_is_down() -> None:
    async with simulated("a", keeps("a")) as a, simulated("b", keeps("b")) as b, line(a, b) as g:
        answer_id = (await ask(g.port, "responses", store=None)).json["id"]
        await a.refuse()
        got = await ask(g.port, "responses", store=None, previous_response_id=answer_id)
        assert got.status == 502
        got = await ask(g.port, "responses", store=None, previous_response_id=answer_id)
        assert got.status == 503
        assert "not asked, Elsewhere: another backend keeps what the request continues" in got.message
        assert not b.seen


async def test_what_another_gateway_relayed_is_looked_for() -> None:
    async with simulated("a", keeps("a")) as a, simulated("b", keeps("b")) as b:
        async with line(b) as other:
            answer_id = (await ask(other.port, "responses", store=None)).json["id"]
        async with line(a, b) as g:
            got = await ask(g.port, "responses", store=None, previous_response_id=answer_id)
            assert (got.status, got.headers["x-pointsman-backend"]) == (200, "b")
            assert g.meter.verdicts[0] == ("a", "Unfit", "NotKept")
            again = await ask(g.port, "responses", store=None, previous_response_id=got.json["id"])
            assert again.headers["x-pointsman-attempts"] == "1", "learnt"


@pytest.mark.parametrize(
    ("operation", "answer"),
    [
        ("responses/compact", {"id": "resp_9", "object": "response.compaction", "output": [{"type": "compaction"}]}),
        ("responses/input_tokens", {"object": "response.input_tokens", "input_tokens": 7}),
    ],
)
async def test_what_is_asked_about_a_response_goes_to_who_keeps_it(operation: str, answer: dict[str, Any]) -> None:
    async with (
        simulated("a", refuses(429), whole(answer)) as a,
        simulated("b", keeps("b"), refuses(500), whole(answer)) as b,
        line(a, b) as g,
    ):
        answer_id = (await ask(g.port, "responses", store=None)).json["id"]
        got = await ask(g.port, operation, previous_response_id=answer_id)
        assert (got.status, got.headers["x-pointsman-backend"]) == (200, "b"), "asked again: it has done nothing"
        assert (len(a.seen), len(b.seen)) == (1, 3)


async def test_what_nobody_keeps_is_said_by_the_first() -> None:
    async with simulated("a", keeps("a")) as a, simulated("b", keeps("b")) as b, line(a, b) as g:
        got = await ask(g.port, "responses", previous_response_id="resp_lost")
        assert (got.status, got.json["error"]["code"]) == (400, "previous_response_not_found")


@pytest.mark.parametrize("stream", [False, True])
async def test_who_ignores_what_is_continued_does_not_serve(stream: bool) -> None:
    """Ollama does: it would answer as if nothing had been said before."""
    forgetful = streams(created(), delta("a"), completed("a"), Act.END) if stream else whole(response("a"))
    async with simulated("a", forgetful) as a, simulated("b", keeps("b")) as b, line(a, b) as g:
        async with line(b) as other:
            answer_id = (await ask(other.port, "responses", store=None)).json["id"]
        got = await ask(g.port, "responses", stream=stream, previous_response_id=answer_id)
        assert (got.status, got.headers["x-pointsman-backend"]) == (200, "b")
        assert ("a", "Unfit", "Forgotten") in g.meter.verdicts
        alone = await ask(g.port, "responses", "x-pointsman-fallback: none", stream=stream, previous_response_id="x")
        assert (alone.status, alone.json["error"]["code"]) == (400, "previous_response_not_found")
        assert "Send the whole conversation as input" in alone.message
