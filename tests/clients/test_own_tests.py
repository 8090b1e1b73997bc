"""OpenAI's own tests end through the gateway as they end without it, and the published table says so."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from tests.clients.mock_openai import Asked
from tests.clients.own_tests import Comparison, compare, reason
from tests.clients.publish import PAGE, render

RELAYED = (
    "/chat/completions", "/completions", "/embeddings", "/responses", "/responses/compact", "/responses/input_tokens",
)  # fmt: skip
KEPT = re.compile(
    r"(GET|POST|DELETE) /(chat/completions|responses(?!/compact|/input_tokens))/|GET /chat/comp|DELETE /models/"
)

# The first run on a machine fetches the source distribution.
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    return asyncio.run(compare(tmp_path_factory.mktemp("reports")))


def test_same_results_through_the_gateway(found: Comparison) -> None:
    assert set(found.direct.outcomes.values()) == {"passed"}, "the mock itself"
    assert len(found.through.outcomes) == len(found.direct.outcomes) > 400
    assert {name: said for name, said in found.different.items() if reason(name) is None} == {}


def test_the_mock_is_asked_the_same(found: Comparison) -> None:
    def relayed(asked: list[Asked]) -> list[tuple[str, str, Any]]:
        """Creating calls that name a model, and what is asked of things that are kept. Usage of a stream is asked for
        by the gateway."""
        calls = []
        for call in asked:
            if KEPT.match(f"{call.method} {call.path}"):
                calls.append((call.method, call.path, call.body))
            elif call.method == "POST" and call.path in RELAYED and "model" in call.body:
                body = dict(call.body)
                if body.get("stream") and isinstance(body.get("stream_options"), dict | None):
                    body.pop("stream_options", None)
                calls.append((call.method, call.path, body))
        return calls

    direct, through = relayed(found.direct.asked), relayed(found.through.asked)
    assert len(direct) > 200
    assert through == direct


def test_the_published_table_is_this_run(found: Comparison) -> None:
    assert PAGE.read_text() == render(found), "write it again: python -m tests.clients.publish"
