"""What backends keep: found at who has it, whoever is asked first; and never called missing while somebody could not be
asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.gateway.operations.asking import ask, created, keeps, refuses, whole
from tests.support.engine import until
from tests.support.raw_client import Got, connected
from tests.support.running_gateway import Running, gateway, route, table
from tests.support.simulated import Gate, Simulated, simulated

from pointsman.api.objects import ModelRoute
from pointsman.domain.probed import Probed, ProbeOutcome
from pointsman.gateway.limits import Limits
from pointsman.simulator.behaviour import Act, Behaviour, answers, sends, streams

ABSENT = refuses(404, "Response with id 'resp_1' not found.")
KEPT = whole({"id": "resp_1", "object": "response", "status": "completed"})
HAS = {"id": "resp_1", "object": "response", "status": "completed"}
SHORT = Limits(stored_answer_seconds=1.0, stored_idle_seconds=1.0)
"""For tests of silence: long enough for a good answer on a busy machine."""


@asynccontextmanager
async def holding(label: str, *script: Behaviour) -> AsyncIterator[Simulated]:
    """It runs its script for all that is asked, but for the list of models."""
    async with simulated(label, *script) as backend:
        backend.keeps = lambda r: None if (r.method, r.path) == ("GET", "/v1/models") else backend.choose(r)
        yield backend


@asynccontextmanager
async def line(*backends: Simulated, stored: str | None = None, routes: list[ModelRoute] | None = None,
               limits: Limits | None = None) -> AsyncIterator[Running]:  # fmt: skip
    made = []
    for b in backends:
        options: dict[str, Any] = {"url": f"http://127.0.0.1:{b.port}/v1"}
        if stored is not None:
            options["stored"] = stored
        made.append(b.backend(external=options, models=[{"name": "m"}, {"name": "n/2"}]))
    chosen = routes or [route(*(b.label for b in backends))]
    async with gateway(table(made, chosen), limits=limits) as running:
        yield running


async def get(g: Running, what: str, method: str = "GET", body: bytes = b"", *headers: str) -> Got:
    lines = [f"{method} /v1/{what} HTTP/1.1", "host: g", *headers, f"content-length: {len(body)}"]
    async with connected(g.port) as client:
        await client.send("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        return await client.receive(head_only=method == "HEAD")


def names(*backends: Simulated) -> list[int]:
    return [len(b.seen) for b in backends]


CALLS = (
    ("GET", "responses/resp_1?include[]=file_search_call.results", b""),
    ("DELETE", "responses/resp_1", b""),
    ("POST", "responses/resp_1/cancel", b""),
    ("GET", "responses/resp_1/input_items?limit=2&after=x%20y", b""),
    ("GET", "chat/completions/chatcmpl-1", b""),
    ("POST", "chat/completions/chatcmpl-1", b'{"metadata":{"a":"b"}}'),
    ("DELETE", "chat/completions/chatcmpl-1", b""),
    ("GET", "chat/completions/chatcmpl-1/messages?order=desc", b""),
)


@pytest.mark.parametrize(("method", "what", "body"), CALLS)
async def test_who_has_it_is_found_and_remembered(method: str, what: str, body: bytes) -> None:
    async with holding("a", ABSENT) as a, holding("b", KEPT) as b, line(a, b) as g:
        got = await get(g, what, method, body)
        assert (got.status, got.json) == (200, HAS)
        assert (got.headers["x-pointsman-backend"], got.headers["x-pointsman-attempts"]) == ("b", "2")
        seen = b.seen[0]
        assert (seen.method, seen.path, seen.body) == (method, f"/v1/{what}", body)
        assert seen.headers["x-request-id"] == got.headers["x-request-id"]
        again = await get(g, what, method, body)
        assert again.headers["x-pointsman-attempts"] == "1"
        assert names(a, b) == [1, 2]
        record = g.meter.requests[0]
        assert (record.operation, record.status, record.backend, record.attempts) == ("stored", 200, "b", 2)
        assert g.meter.started == 2


async def test_what_was_made_through_the_gateway_is_asked_of_who_made_it() -> None:
    async with holding("a", refuses(429), ABSENT) as a, holding("b", keeps("b"), KEPT) as b, line(a, b) as g:
        made = await ask(g.port, "responses", store=None)
        got = await get(g, f"responses/{made.json['id']}")
        assert (got.status, got.headers["x-pointsman-attempts"]) == (200, "1")
        assert len(a.seen) == 1


async def test_nobody_has_it() -> None:
    async with holding("a", ABSENT) as a, holding("b", answers(405, b"<html>", "text/html")) as b, line(a, b) as g:
        got = await get(g, "responses/resp_1")
        assert (got.status, got.headers["x-should-retry"]) == (404, "false")
        assert got.json["error"]["type"] == "invalid_request_error"
        assert got.message == "no backend keeps the response resp_1"
        assert g.meter.requests[0].verdict == "Unfit"


TROUBLES: dict[str, tuple[Behaviour, int, str]] = {
    "401": (refuses(401, "Incorrect API key provided: sk-ours"), 503, "Denied, Unauthorized"),
    "403": (refuses(403, "sk-ours may not"), 503, "Denied, Forbidden"),
    "429": (refuses(429, "slow down"), 429, "Busy, RateLimited"),
    "500": (refuses(500), 502, "Failure, ServerError"),
    "loading": (refuses(503, "Loading model"), 503, "Loading, Loading"),
    "redirect": (answers(302, b"", "text/html", "location: http://elsewhere/"), 502, "Failure, Redirect"),
    "html": (answers(200, b"<html>hello</html>", "text/html"), 502, "Failure, NotJson"),
    "no json": (answers(200, b'{"id":'), 502, "Failure, NotJson"),
    "gzip": (answers(200, b"abc", "application/json", "content-encoding: gzip"), 502, "Failure, BrokenHttp"),
    "reset": (sends(Act.RESET), 502, "Failure, Reset"),
    "cut": (sends(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{", Act.CUT), 502, "Failure, Cut"),
    "rubbish": (sends(b"SSH-2.0\r\n\r\n", Act.CUT), 502, "Failure, BrokenHttp"),
    "silence": (sends(Act.SILENCE), 504, "Stalled, AnswerTimeout"),
}


@pytest.mark.parametrize(("trouble", "status", "said"), TROUBLES.values(), ids=TROUBLES)
async def test_it_is_not_called_missing_while_somebody_could_not_be_asked(
    trouble: Behaviour, status: int, said: str
) -> None:
    limits = SHORT if "Stalled" in said else None
    async with holding("a", trouble) as a, holding("b", ABSENT) as b, line(a, b, limits=limits) as g:
        got = await get(g, "responses/resp_1")
        assert got.status == status
        assert got.message.startswith("the response resp_1 could not be looked up everywhere")
        assert f"- a: {said}: " in got.message
        assert "- b: Unfit, NotKept: it does not have it" in got.message
        assert "sk-ours" not in got.body.decode()
        assert ("retry-after" in got.headers) is (status == 429)
        b.script = (KEPT,)
        b.seen.clear()
        got = await get(g, "responses/resp_1")
        assert (got.status, got.headers["x-pointsman-backend"]) == (200, "b"), "and who has it answers all the same"


async def test_who_refuses_connections_could_not_be_asked() -> None:
    async with holding("a", ABSENT) as a, holding("b", ABSENT) as b, line(a, b) as g:
        await a.refuse()
        got = await get(g, "chat/completions/chatcmpl-1")
        assert got.status == 502
        assert "- a: Failure, Refused: it refuses connections" in got.message
        await b.refuse()
        assert (await get(g, "chat/completions/chatcmpl-1")).status == 502


async def test_what_the_client_did_wrong_is_told_when_nobody_else_has_it() -> None:
    wrong = refuses(400, "Only background responses can be cancelled.")
    async with holding("a", wrong) as a, holding("b", ABSENT) as b, line(a, b) as g:
        got = await get(g, "responses/resp_1/cancel", "POST")
        assert (got.status, got.message) == (400, "Only background responses can be cancelled.")
        b.script = (KEPT,)
        assert (await get(g, "responses/resp_1/cancel", "POST")).status == 200
    async with holding("a", wrong) as a, holding("b", refuses(500)) as b, line(a, b) as g:
        assert (await get(g, "responses/resp_1/cancel", "POST")).status == 502


async def test_who_is_out_of_service_is_asked_last() -> None:
    async with holding("a", ABSENT) as a, holding("b", KEPT) as b, line(a, b) as g:
        down = Probed(ProbeOutcome.FAILED, g.state.clock(), reason="ProbeFailed", message="it failed")
        for _ in range(3):
            g.state.observe_probe(g.state.table.backends["a"].endpoints[0].key, down)
        got = await get(g, "responses/resp_1")
        assert (got.status, got.headers["x-pointsman-attempts"]) == (200, "1")
        assert names(a, b) == [0, 1]


async def test_a_connection_that_ended_while_it_was_idle_is_replaced() -> None:
    async with holding("a", KEPT, sends(Act.CUT), KEPT) as a, line(a) as g:
        assert (await get(g, "responses/resp_1")).status == 200
        assert (await get(g, "responses/resp_1")).status == 200
        assert [r.reused for r in a.seen] == [False, True, False]


# ---- answers


EVENTS = (created("resp_1"), {"type": "response.output_text.delta", "delta": "hi"})


async def test_a_stream_is_passed_on_as_it_comes() -> None:
    gate = Gate(streams(*EVENTS, Act.END))
    async with holding("a", ABSENT) as a, holding("b", gate) as b, line(a, b) as g:
        asking = asyncio.create_task(get(g, "responses/resp_1?stream=true&starting_after=3"))
        await b.until(lambda: b.now == 1)
        gate.let()
        got = await asking
        assert (got.status, got.whole, got.events) == (200, True, list(EVENTS))
        assert b.seen[0].path.endswith("?stream=true&starting_after=3")


@pytest.mark.parametrize("end", [Act.CUT, Act.SILENCE])
async def test_a_stream_that_breaks_off_is_not_taken_for_whole(end: Act) -> None:
    async with holding("a", streams(*EVENTS, end)) as a, holding("b", KEPT) as b, line(a, b, limits=SHORT) as g:
        got = await get(g, "responses/resp_1?stream=true")
        assert (got.status, got.whole) == (200, False)
        assert not b.seen, "nobody is asked after the first byte"


async def test_an_answer_that_is_large_is_passed_on_whole() -> None:
    large = whole({"id": "resp_1", "text": "x" * 5_000_000})
    async with holding("a", large) as a, line(a, limits=Limits(answer_bytes=100_000)) as g:
        got = await get(g, "responses/resp_1")
        assert (got.status, got.whole, len(got.json["text"])) == (200, True, 5_000_000)


@pytest.mark.parametrize("status", [200, 204])
async def test_a_deletion_may_be_answered_with_nothing(status: int) -> None:
    async with holding("a", answers(status)) as a, line(a) as g:
        got = await get(g, "responses/resp_1", "DELETE")
        assert (got.status, got.body, got.whole) == (status, b"", True)


async def test_who_does_not_wait_is_not_worked_for() -> None:
    gate = Gate()
    async with holding("a", gate) as a, line(a) as g:
        async with connected(g.port) as client:
            await client.send(b"GET /v1/responses/resp_1 HTTP/1.1\r\nhost: g\r\n\r\n")
            await a.until(lambda: a.now == 1)
        await until(lambda: g.meter.requests, what="the end of the lookup")
        assert (g.meter.requests[0].status, g.meter.requests[0].verdict) == (499, "Cancelled")


async def test_one_connection_carries_lookups_and_requests() -> None:
    async with holding("a", KEPT) as a, line(a) as g, connected(g.port) as client:
        await client.send(b"GET /v1/responses/resp_1 HTTP/1.1\r\nhost: g\r\n\r\n" * 3)
        assert [(await client.receive()).status for _ in range(3)] == [200] * 3


# ---- who may have what


@pytest.mark.parametrize("what", ["responses/resp_1", "chat/completions/chatcmpl-1"])
async def test_a_backend_that_is_closed_is_not_asked(what: str) -> None:
    async with holding("a", KEPT) as a, line(a, stored="None") as g:
        got = await get(g, what)
        assert got.status == 404
        assert "none that is in use keeps anything" in got.message
        assert not a.seen


async def test_a_backend_that_no_route_leads_to_is_not_asked() -> None:
    async with holding("a", ABSENT) as a, holding("b", KEPT) as b, line(a, b, routes=[route("a")]) as g:
        assert (await get(g, "responses/resp_1")).status == 404
        assert not b.seen


PAGE = {"object": "list", "data": [{"id": "chatcmpl-7"}, {"id": "chatcmpl-8"}], "has_more": True}


async def test_a_list_is_that_of_one_backend() -> None:
    async with holding("a", whole(PAGE)) as a, line(a, stored="All") as g:
        got = await get(g, "chat/completions?limit=2")
        assert (got.status, got.json) == (200, PAGE)
        assert a.seen[0].path == "/v1/chat/completions?limit=2"
    async with holding("a", whole(PAGE)) as a, holding("b", whole(PAGE)) as b, line(a, b, stored="All") as g:
        got = await get(g, "chat/completions")
        assert (got.status, got.json["error"]["param"]) == (400, "model")
        assert got.message.endswith("there are those of a, b")
        assert not a.seen
        assert not b.seen


async def test_the_models_route_says_whose_list_it_is() -> None:
    routes = [route("a", models=("chat",)), ModelRoute.parse(
        {"metadata": {"name": "s"}, "spec": {"models": ["big"], "targets": [{"backend": "b", "model": "n/2"}]}}
    )]  # fmt: skip
    async with (
        holding("a", whole(PAGE)) as a,
        holding("b", whole(PAGE), refuses(500)) as b,
        line(a, b, stored="All", routes=routes) as g,
    ):
        got = await get(g, "chat/completions?model=big&limit=2")
        assert (got.status, got.headers["x-pointsman-backend"]) == (200, "b")
        assert b.seen[0].path == "/v1/chat/completions?model=n%2F2&limit=2"
        got = await get(g, "chat/completions?after=chatcmpl-8")
        assert (got.status, len(b.seen), len(a.seen)) == (502, 2, 0), "what is listed is known, and is nobody else's"
        assert (await get(g, "chat/completions?model=none")).json["error"]["code"] == "model_not_found"


async def test_lists_and_deletions_must_be_allowed() -> None:
    async with holding("a", whole(PAGE)) as a, line(a) as g:
        got = await get(g, "chat/completions")
        assert (got.status, got.json["error"]["code"]) == (403, "not_allowed")
        assert "external.stored" in got.message
        got = await get(g, "models/chat", "DELETE")
        assert (got.status, got.json["error"]["code"]) == (403, "not_allowed")
        assert not a.seen


async def test_a_model_is_deleted_by_the_name_that_its_backend_knows() -> None:
    made = ModelRoute.parse(
        {"metadata": {"name": "s"}, "spec": {"models": ["big"], "targets": [{"backend": "a", "model": "n/2"}]}}
    )
    deleted = {"id": "n/2", "object": "model", "deleted": True}
    async with holding("a", whole(deleted)) as a, line(a, stored="All", routes=[made]) as g:
        got = await get(g, "models/big", "DELETE")
        assert (got.status, got.json) == (200, deleted)
        assert (a.seen[0].method, a.seen[0].path) == ("DELETE", "/v1/models/n%2F2")
        assert (await get(g, "models/other", "DELETE")).json["error"]["code"] == "model_not_found"


# ---- addresses


@pytest.mark.parametrize(
    ("method", "what", "allowed"),
    [
        ("PUT", "responses/resp_1", "GET, DELETE"),
        ("GET", "responses/resp_1/cancel", "POST"),
        ("PATCH", "chat/completions/chatcmpl-1", "GET, POST, DELETE"),
        ("DELETE", "chat/completions", "POST, GET"),
        ("PUT", "models/chat", "GET, HEAD, DELETE"),
    ],
)
async def test_another_method_is_told_which_there_are(method: str, what: str, allowed: str) -> None:
    async with holding("a", KEPT) as a, line(a, stored="All") as g:
        got = await get(g, what, method)
        assert (got.status, got.headers["allow"]) == (405, f"{allowed}, OPTIONS")
        assert (await get(g, what, "OPTIONS")).status == 204
        assert not a.seen


@pytest.mark.parametrize(
    "what",
    ["responses/..", "responses/.", "responses/a%2Fb", "responses/", "responses/a/b", "responses/a/cancel/b",
     "responses/../models", f"responses/{'a' * 300}", "chat/completions/a/cancel", "conversations/conv_1"],
)  # fmt: skip
async def test_addresses_that_lead_elsewhere_are_not_passed_on(what: str) -> None:
    async with holding("a", KEPT) as a, line(a, stored="All") as g:
        got = await get(g, what)
        assert (got.status, got.json["error"]["code"]) == (404, "unknown_url")
        assert not a.seen


async def test_a_body_that_is_encoded_is_refused() -> None:
    async with holding("a", KEPT) as a, line(a) as g:
        got = await get(g, "chat/completions/chatcmpl-1", "POST", b"abc", "content-encoding: gzip")
        assert got.status == 415
        assert not a.seen
