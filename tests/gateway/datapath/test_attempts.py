"""Who is asked, how often, and in which order; and what becomes of the health of endpoints meanwhile."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from tests.support.engine import until
from tests.support.raw_client import chat
from tests.support.running_gateway import SHORT, external, gateway, ollama, route, table
from tests.support.simulated import Gate
from tests.support.upstream import Upstream, says

from pointsman.domain.candidates import order
from pointsman.domain.probed import Probed, ProbeOutcome
from pointsman.gateway.insight.events import HealthChanged
from pointsman.simulator.behaviour import Act, Behaviour, answers, sends, streams
from pointsman.simulator.connection import Connection, Request
from pointsman.simulator.openai_bytes import ROLE, completion, delta, error, event

FAILS = answers(500, error("boom"))
EMPTY_JSON = answers(200, completion(""))
EMPTY_STREAM = streams(ROLE, delta(finish="stop"), b"[DONE]", Act.END)


def at(name: str, one: Upstream | int) -> Any:
    return external(name, f"http://127.0.0.1:{one if isinstance(one, int) else one.port}/v1")


async def refused(upstream: Any) -> int:
    """A port that nobody listens on."""
    gone = await upstream(FAILS)
    await gone.stop()
    return int(gone.port)


async def test_refused_connection_costs_no_attempt(upstream: Any) -> None:
    dead = [await refused(upstream) for _ in range(3)]
    good = await upstream(says("ok"))
    backends = [at(f"d{n}", port) for n, port in enumerate(dead)] + [at("good", good)]
    async with gateway(table(backends, [route("d0", "d1", "d2", "good", maxAttempts=1)])) as g:
        got = await chat(g.port)
        assert got.headers["x-pointsman-backend"] == "good"
        assert [g.machine(f"d{n}").state for n in range(3)] == ["Unhealthy"] * 3
        again = await chat(g.port)
    assert again.headers["x-pointsman-attempts"] == "1", "refused once is enough"
    assert got.headers["x-pointsman-attempts"] == "4"


async def test_three_dead_pods_of_one_backend(upstream: Any) -> None:
    dead = [await refused(upstream) for _ in range(3)]
    good = await upstream(says("ok"))
    compiled = table([ollama("pods"), at("good", good)], [route("pods", "good")], {"pods": dead})
    async with gateway(compiled) as g:
        got = await chat(g.port)
        assert got.headers["x-pointsman-backend"] == "good"
        assert len(g.fallbacks) == 1


async def test_two_attempts_per_target_and_the_last_for_another_backend(upstream: Any) -> None:
    pods = [await upstream(FAILS) for _ in range(4)]
    good = await upstream(says("ok"))
    compiled = table(
        [ollama("pods"), at("good", good)], [route("pods", "good", maxAttempts=3)], {"pods": [p.port for p in pods]}
    )
    async with gateway(compiled) as g:
        got = await chat(g.port)
    assert got.headers["x-pointsman-backend"] == "good"
    assert sum(len(p.seen) for p in pods) == 2
    async with gateway(
        table(
            [ollama("pods"), at("good", good)], [route("pods", "good", maxAttempts=2)], {"pods": [p.port for p in pods]}
        )
    ) as g:
        await chat(g.port)
    assert sum(len(p.seen) for p in pods) == 3


async def test_least_loaded_pod_is_asked(upstream: Any) -> None:
    gate = Gate()
    pods = [await upstream(gate) for _ in range(3)]
    async with gateway(table([ollama("pods")], [route("pods")], {"pods": [p.port for p in pods]})) as g:
        asked = [asyncio.create_task(chat(g.port, stream=True)) for _ in range(9)]
        await until(lambda: sum(len(p.seen) for p in pods) == 9)
        gate.let(9)
        await asyncio.gather(*asked)
    assert [len(p.seen) for p in pods] == [3, 3, 3]


async def test_max_attempts_bounds_everything(upstream: Any) -> None:
    ups = [await upstream(FAILS) for _ in range(5)]
    backends = [at(f"b{n}", u) for n, u in enumerate(ups)]
    async with gateway(table(backends, [route(*(b.meta.name for b in backends), maxAttempts=3)])) as g:
        got = await chat(g.port)
    assert got.status == 502
    assert [len(u.seen) for u in ups] == [1, 1, 1, 0, 0]
    assert got.message.count("ServerError") == 3


async def test_single_backend_is_tried_again_when_its_failure_may_pass(upstream: Any) -> None:
    flaky = await upstream(FAILS, says("ok"))
    async with gateway(table([at("a", flaky)], [route("a")])) as g:
        got = await chat(g.port)
    assert got.status == 200
    assert got.headers["x-pointsman-attempts"] == "2"


@pytest.mark.parametrize("how", ["route", "header"])
async def test_fallback_off_is_honoured(how: str, upstream: Any) -> None:
    bad, good = await upstream(FAILS), await upstream(says("ok"))
    options = {"mode": "None"} if how == "route" else {}
    headers = ["x-pointsman-fallback: none"] if how == "header" else []
    async with gateway(table([at("a", bad), at("b", good)], [route("a", "b", **options)])) as g:
        got = await chat(g.port, *headers)
    assert got.status == 502
    assert len(bad.seen) == 1
    assert not good.seen


@pytest.mark.parametrize("stream", [False, True])
async def test_empty_answer_moves_on(stream: bool, upstream: Any) -> None:
    empty, good = await upstream(EMPTY_STREAM if stream else EMPTY_JSON), await upstream(says("ok"))
    async with gateway(table([at("a", empty), at("b", good)], [route("a", "b")])) as g:
        got = await chat(g.port, stream=stream)
        assert got.headers["x-pointsman-backend"] == "b"
        assert g.meter.verdicts[0] == ("a", "Failure", "EmptyAnswer")


@pytest.mark.parametrize("stream", [False, True])
async def test_when_all_are_empty_the_model_may_mean_it(stream: bool, upstream: Any) -> None:
    a, b = [await upstream(EMPTY_STREAM if stream else EMPTY_JSON) for _ in range(2)]
    async with gateway(table([at("a", a), at("b", b)], [route("a", "b")])) as g:
        got = await chat(g.port, stream=stream)
        assert got.status == 200
        assert got.headers["x-pointsman-verdict"] == "EmptyAnswer"
        assert got.headers["x-pointsman-backend"] == "b"
        if stream:
            assert got.events[-1] == "[DONE]"
            assert got.events[-2]["choices"][0]["finish_reason"] == "stop"
        for name in ("a", "b"):
            assert g.machine(name).burden(g.state.clock()) == 0, "withdrawn: both said the same"


@pytest.mark.parametrize("reason", ["content_filter", "length"])
async def test_silence_with_a_reason_is_an_answer(reason: str, upstream: Any) -> None:
    a = await upstream(streams(ROLE, delta(finish=reason), b"[DONE]", Act.END))
    b = await upstream(says("no"))
    async with gateway(table([at("a", a), at("b", b)], [route("a", "b")])) as g:
        got = await chat(g.port, stream=True)
    assert got.headers["x-pointsman-backend"] == "a"
    assert got.events[-2]["choices"][0]["finish_reason"] == reason


async def test_busy_backend_is_not_ejected_and_recovers(upstream: Any) -> None:
    busy = await upstream(answers(429, error("x"), "application/json", "retry-after: 0"), says("first"))
    good = await upstream(says("second"))
    async with gateway(table([at("a", busy), at("b", good)], [route("a", "b")])) as g:
        assert (await chat(g.port)).headers["x-pointsman-backend"] == "b"
        assert g.machine("a").state == "Unknown"
        assert (await chat(g.port)).headers["x-pointsman-backend"] == "a"


async def test_five_failures_eject_and_probes_bring_back(upstream: Any) -> None:
    bad, good = await upstream(*[FAILS] * 5, says("back")), await upstream(says("ok"))
    async with gateway(table([at("a", bad), at("b", good)], [route("a", "b")])) as g:
        states = []
        for _ in range(7):
            assert (await chat(g.port)).status == 200
            states.append(g.machine("a").state.value)
        assert states == ["Unknown", "Degraded", "Degraded", "Degraded", "Unhealthy", "Unhealthy", "Unhealthy"]
        assert len(bad.seen) == 5, "an ejected endpoint gets no traffic"
        key = g.state.table.backends["a"].endpoints[0].key
        for _ in range(2):
            g.state.observe_probe(key, Probed(ProbeOutcome.OK, g.state.clock()))
        assert g.machine("a").state == "Probation"
        served = [(await chat(g.port)).headers["x-pointsman-backend"] for _ in range(15)]
        assert served == ["a"] * 15
        assert g.machine("a").state == "Healthy"
        changes = [(e.old.value, e.new.value) for e in g.events if isinstance(e, HealthChanged) and e.backend == "a"]
    assert changes == [
        ("Unknown", "Degraded"),
        ("Degraded", "Unhealthy"),
        ("Unhealthy", "Probation"),
        ("Probation", "Healthy"),
    ]


async def test_ramp_sends_one_trial_not_the_whole_load(upstream: Any) -> None:
    gate = Gate()
    back, good = await upstream(gate), await upstream(gate)
    async with gateway(table([at("a", back), at("b", good)], [route("a", "b")])) as g:
        key = g.state.table.backends["a"].endpoints[0].key
        for _ in range(3):
            g.state.observe_probe(key, Probed(ProbeOutcome.FAILED, g.state.clock()))
        for _ in range(2):
            g.state.observe_probe(key, Probed(ProbeOutcome.OK, g.state.clock()))
        asked = [asyncio.create_task(chat(g.port, stream=True)) for _ in range(8)]
        await until(lambda: len(back.seen) + len(good.seen) == 8)
        gate.let(8)
        await asyncio.gather(*asked)
        assert [len(back.seen), len(good.seen)] == [1, 7]


async def test_poison_request_ejects_nobody(upstream: Any) -> None:
    async def behave(connection: Connection, request: Request) -> None:
        if "poison" in request.body.decode():
            await connection.answer(500, error("boom"))
        else:
            await says("ok")(connection, request)

    a, b = await upstream(behave), await upstream(behave)
    async with gateway(table([at("a", a), at("b", b)], [route("a", "b")])) as g:
        for _ in range(12):
            assert (await chat(g.port, user="poison")).status == 502
        assert {g.machine(n).state.value for n in "ab"} <= {"Unknown", "Healthy"}
        assert (await chat(g.port)).headers["x-pointsman-backend"] == "a"


@pytest.mark.parametrize("how", ["TryOne", "Fail"])
async def test_never_empty(how: str, upstream: Any) -> None:
    a = await upstream(says("still here"))
    async with gateway(table([at("a", a)], [route("a", whenAllUnhealthy=how)])) as g:
        key = g.state.table.backends["a"].endpoints[0].key
        for _ in range(3):
            g.state.observe_probe(key, Probed(ProbeOutcome.FAILED, g.state.clock()))
        got = await chat(g.port)
        if how == "TryOne":
            assert got.status == 200
            assert got.headers["x-pointsman-trial"] == "LeastBad"
            assert g.machine("a").state == "Probation"
        else:
            assert got.status == 503
            assert "not asked, Unhealthy" in got.message
            assert not a.seen


async def test_all_down(upstream: Any) -> None:
    dead = [await refused(upstream) for _ in range(2)]
    async with gateway(table([at("a", dead[0]), at("b", dead[1])], [route("a", "b")])) as g:
        for _ in range(3):
            got = await chat(g.port)
            assert got.status == 502
            assert "Refused" in got.message


async def test_denied_backend_rests_until_its_secret_changes(upstream: Any) -> None:
    from pointsman.domain.table import SecretValue

    a, b = await upstream(answers(401, error("bad key")), says("a")), await upstream(says("b"))
    backends = [external("a", f"http://127.0.0.1:{a.port}/v1", secret="key"), at("b", b)]

    def compiled(version: str, value: str) -> Any:
        return table(backends, [route("a", "b")], secrets={"key": SecretValue(version, {"api-key": value})})

    async with gateway(compiled("1", "old")) as g:
        for _ in range(3):
            assert (await chat(g.port)).headers["x-pointsman-backend"] == "b"
        assert len(a.seen) == 1
        g.state.set_table(compiled("2", "new"))
        assert (await chat(g.port)).headers["x-pointsman-backend"] == "a"
    assert [s.headers["authorization"] for s in a.seen] == ["Bearer old", "Bearer new"]


async def test_forbidden_needs_three_requests(upstream: Any) -> None:
    a, b = await upstream(answers(403, error("no"))), await upstream(says("b"))
    async with gateway(table([at("a", a), at("b", b)], [route("a", "b")])) as g:
        for _ in range(5):
            await chat(g.port)
    assert len(a.seen) == 3


async def test_missing_model_rests_for_that_model_only(upstream: Any) -> None:
    async def behave(connection: Connection, request: Request) -> None:
        if request.json["model"] == "m":
            await connection.answer(404, error("model 'm' not found"))
        else:
            await says("other")(connection, request)

    a, b = await upstream(behave), await upstream(says("b"))
    backends = [external("a", f"http://127.0.0.1:{a.port}/v1", models=("m", "n")), at("b", b)]
    r2 = route("a:n", models=("other",))
    r2 = type(r2).parse({"metadata": {"name": "r2"}, "spec": r2.spec.model_dump(by_alias=True, mode="json")})
    async with gateway(table(backends, [route("a:m", "b"), r2])) as g:
        for _ in range(3):
            assert (await chat(g.port)).headers["x-pointsman-backend"] == "b"
        assert len(a.seen) == 1
        assert (await chat(g.port, model="other")).headers["x-pointsman-backend"] == "a"


async def test_stalled_counts_only_when_nothing_advanced(upstream: Any) -> None:
    """A busy GPU is slow, a dead one is silent."""

    enough = asyncio.Event()

    async def behave(connection: Connection, request: Request) -> None:
        if "stall" in request.body.decode():
            await connection.silence()
        await connection.open_stream()
        while not enough.is_set():
            await connection.chunk(event(delta("x")))
            await asyncio.sleep(0.05)
        await connection.chunk(event(delta(finish="stop")) + event(b"[DONE]"))
        await connection.end_stream()

    a, b = await upstream(behave), await upstream(says("b"))
    async with gateway(table([at("a", a), at("b", b)], [route("a", "b", timeouts=SHORT)])) as g:
        alive = asyncio.create_task(chat(g.port, stream=True))
        await a.asked()
        got = await chat(g.port, stream=True, user="stall")
        assert got.headers["x-pointsman-backend"] == "b"
        assert g.machine("a").state == "Unknown"
        enough.set()
        await alive
        await asyncio.sleep(0.01)
        await chat(g.port, stream=True, user="stall")
        assert g.machine("a").state == "Unhealthy"


async def test_fallback_itself_fails(upstream: Any) -> None:
    ups = [await upstream(b) for b in (FAILS, sends(Act.RESET), says("third"))]
    async with gateway(table([at(n, u) for n, u in zip("abc", ups, strict=True)], [route("a", "b", "c")])) as g:
        got = await chat(g.port)
        assert got.headers["x-pointsman-backend"] == "c"
        assert [f.event.from_backend + f.event.to_backend for f in g.fallbacks] == ["ab", "bc"]
        last = g.state.last_fallback["r"]
        assert (last.from_backend, last.to_backend, last.reason, last.count) == ("b", "c", "Reset", 2)
        assert last.request_id == got.headers["x-request-id"]


async def test_backend_without_a_pod_is_passed_over(upstream: Any) -> None:
    good = await upstream(says("ok"))
    async with gateway(table([ollama("cold"), at("b", good)], [route("cold", "b")])) as g:
        got = await chat(g.port)
        assert got.headers["x-pointsman-backend"] == "b"
        ordering = order(g.state.table.names["chat"], g.state.health, g.state.clock())
        assert [(e.backend, e.reason.value) for e in ordering.excluded] == [("cold", "NoEndpoint")]
        last = g.state.last_fallback["r"]
        assert (last.from_backend, last.to_backend, last.reason) == ("cold", "b", "NoEndpoint")
    async with gateway(table([ollama("cold")], [route("cold")])) as g:
        got = await chat(g.port)
        assert got.status == 503
        assert "not asked, NoEndpoint: no pod of it is ready" in got.message


async def test_flapping_backend_never_loses_a_request(upstream: Any) -> None:
    script: list[Behaviour] = [FAILS, says("a"), sends(Act.RESET), says("a"), sends(Act.CUT), says("a")] * 20
    flapping, good = await upstream(*script), await upstream(says("b"))
    async with gateway(table([at("a", flapping), at("b", good)], [route("a", "b")])) as g:
        key = g.state.table.backends["a"].endpoints[0].key
        for n in range(60):
            assert (await chat(g.port, stream=n % 2 == 0)).status == 200
            if n % 3 == 0:
                g.state.observe_probe(key, Probed(ProbeOutcome.OK, g.state.clock()))
        assert g.machine("a").in_flight == g.machine("b").in_flight == 0


async def test_reload_in_the_middle(upstream: Any) -> None:
    gate = Gate(streams(ROLE, delta("one"), delta("two", finish="stop"), b"[DONE]", Act.END))
    slow = await upstream(gate)
    other = await upstream(says("other"))
    async with gateway(table([at("a", slow)], [route("a")])) as g:
        request = asyncio.create_task(chat(g.port, stream=True))
        await slow.asked()
        g.state.set_table(table([at("b", other)], [route("b")]))
        assert (await chat(g.port)).headers["x-pointsman-backend"] == "b"
        gate.let()
        got = await request
        assert got.text == "onetwo"
        assert got.headers["x-pointsman-backend"] == "a"


async def test_a_backend_of_several_routes_has_its_place_in_each(upstream: Any) -> None:
    """The same model of the same backend stands elsewhere in another route; what was tried is known in both."""
    a = await upstream(answers(400, error("too long", "context_length_exceeded")))
    b = await upstream(answers(400, error("too long", "context_length_exceeded")))
    one, two = route("a", "b", models=("one",), maxAttempts=8), route("b", "a", models=("two",), maxAttempts=8)
    backends = [at("a", a), at("b", b)]
    compiled = table(backends, [one, replace(two, meta=replace(two.meta, name="r2"))])
    async with gateway(compiled) as g:
        for model in ("one", "two", "one"):
            assert (await chat(g.port, model=model)).status == 400
    asked = [attempt.backend for attempt in g.meter.attempts]
    assert asked == ["a", "b", "b", "a", "a", "b"]
