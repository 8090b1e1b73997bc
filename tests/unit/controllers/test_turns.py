"""Turns: a bounded rate, whoever comes when, and nobody waits for ever; and the statuses that wait for theirs."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.api.backend_status import HealthStatus, LLMBackendStatus, ModelStatus
from pointsman.controllers.backend import without_figures, without_latency
from pointsman.controllers.context import Context
from pointsman.controllers.status_writer import FIGURES_SECONDS, LATENCY_SPACING, StatusWriter
from pointsman.controllers.turns import Turns
from pointsman.kube.resources import Obj

SPACING = 2.0


@given(st.lists(st.tuples(st.integers(0, 6), st.floats(0, 3)), min_size=1, max_size=60))
def test_never_more_than_one_in_each_spacing_and_nobody_comes_back_in_vain(asked: list[tuple[int, float]]) -> None:
    turns, now, used = Turns(SPACING), 0.0, 0
    promised: dict[int, float] = {}
    for key, passed in asked:
        now += passed
        wait = turns.wait(str(key), now)
        if wait:
            at = promised.setdefault(key, now + wait)
            assert now + wait == pytest.approx(at), "a promise stays"
            assert wait <= SPACING * 7
        else:
            assert promised.pop(key, now) <= now + 1e-9
            used += 1
        # Those who come late may come close together, but no more of them than spacings have gone by.
        assert used <= now / SPACING + 1


def test_a_turn_that_is_given_up_is_not_waited_for() -> None:
    turns = Turns(SPACING)
    assert turns.wait("a", 0.0) == 0.0
    assert turns.wait("b", 0.0) == SPACING
    turns.forget("b")
    assert turns.wait("b", 1.0) == 2 * SPACING - 1.0, "it goes to the end"


class Written:
    """In place of the API server."""

    def __init__(self) -> None:
        self.of: Counter[str] = Counter()

    async def apply_status(self, manifest: Obj) -> Obj:
        self.of[manifest["metadata"]["name"]] += 1
        return manifest


def status(latency: int, progress: str = "", state: Any = "Healthy") -> LLMBackendStatus:
    health = HealthStatus(state=state, latency_ms=latency)
    return LLMBackendStatus(health=health, models=(ModelStatus(name="m", state="Pulling", progress=progress),))


def body(name: str) -> Obj:
    return {"apiVersion": "v1", "kind": "LLMBackend", "metadata": {"name": name, "namespace": "n", "uid": name}}


async def test_latencies_of_many_are_written_slowly_and_news_at_once() -> None:
    server, now = Written(), 100.0
    context = cast(Context, SimpleNamespace(client=server, cache=SimpleNamespace(put=lambda *_: True), instance="i"))
    writer = StatusWriter(context, without_figures, without_latency, clock=lambda: now)
    names = [f"b{n}" for n in range(100)]
    waits = [await writer.write(body(name), status(10), status(50)) for name in names]
    assert waits == [None, *(pytest.approx(n * LATENCY_SPACING) for n in range(1, 100))]
    assert server.of.total() == 1
    assert await writer.write(body("b9"), status(10), status(50, state="Unhealthy")) is None, "news"
    assert await writer.write(body("b9"), status(50, "1 %"), status(50, "2 %")) == FIGURES_SECONDS
    now += FIGURES_SECONDS
    assert await writer.write(body("b9"), status(50, "1 %"), status(50, "2 %")) is None, "progress waits for no latency"
    now += 100 * LATENCY_SPACING
    assert [await writer.write(body(name), status(10), status(50)) for name in names[1:9]] == [None] * 8
    assert server.of.total() == 11
