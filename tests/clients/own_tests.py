"""The tests that OpenAI ships with its Python client, run against a mock of its API and through the gateway before the
same mock; and what of them cannot end alike, with the reason.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from tests.clients.mock_openai import Asked, MockOpenAI
from tests.clients.programs import sdist_of_openai
from tests.support.running_gateway import external, gateway, table

from pointsman.api.objects import LLMBackend, ModelRoute

FILES = (
    "chat/test_completions.py", "test_completions.py", "test_embeddings.py", "test_models.py", "test_responses.py",
    "chat/completions/test_messages.py", "responses/test_input_items.py", "responses/test_input_tokens.py",
)  # fmt: skip

NOT_RELAYED: Mapping[str, str] = {
    r"test_input_tokens\..*_count$|test_input_tokens\..*_count\[": "it names no model to route by",
    r"test_responses\..*(method|raw_response|streaming_response)_create_overload": "it names no model to route by",
}
"""Tests that cannot end alike, and why. A test that fits and ends alike is fine: some call nothing."""


@dataclass
class Run:
    outcomes: dict[str, str]
    """Test → passed, or what it said."""
    asked: list[Asked]


@dataclass
class Comparison:
    direct: Run
    through: Run

    @property
    def different(self) -> dict[str, str]:
        """Tests that did not end alike, with what they said through the gateway."""
        return {name: said for name, said in self.through.outcomes.items() if said != self.direct.outcomes.get(name)}


def reason(test: str) -> str | None:
    """Why it cannot end alike; None when it must."""
    return next((why for pattern, why in NOT_RELAYED.items() if re.search(pattern, test)), None)


def file_of(test: str) -> str:
    """`tests.api_resources.chat.test_completions.Test…` → `chat/test_completions.py`."""
    parts = test.removeprefix("tests.api_resources.").split(".")
    return "/".join(parts[: next(n for n, p in enumerate(parts) if p.startswith("test_")) + 1]) + ".py"


async def compare(folder: Path) -> Comparison:
    """Runs them twice; `folder` takes their reports."""
    sources = sdist_of_openai()
    async with MockOpenAI() as mock:
        direct = await _run(sources, mock.url, mock, folder / "direct.xml")
        async with gateway(table(*_line(sources, mock.url))) as running:
            through = await _run(sources, f"http://127.0.0.1:{running.port}/v1", mock, folder / "through.xml")
    return Comparison(direct, through)


async def _run(sources: Path, url: str, mock: MockOpenAI, report: Path) -> Run:
    mock.asked.clear()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pytest", "-o", "addopts=", "-q", "-p", "no:cacheprovider", "--tb=line",
        f"--junit-xml={report}", *(f"tests/api_resources/{name}" for name in FILES),
        cwd=sources, env=os.environ | {"TEST_API_BASE_URL": url}, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    said = (await process.communicate())[0].decode()
    if not report.exists():
        raise RuntimeError(said)
    outcomes = {}
    for case in ElementTree.parse(report).iter("testcase"):
        trouble = next((c.get("message", "") for c in case if c.tag in ("failure", "error", "skipped")), None)
        outcomes[f"{case.get('classname')}.{case.get('name')}"] = "passed" if trouble is None else trouble
    return Run(outcomes, list(mock.asked))


def _line(sources: Path, url: str) -> tuple[list[LLMBackend], list[ModelRoute]]:
    """Each model that the tests ask for, by its own name."""
    text = "".join(p.read_text() for p in (sources / "tests" / "api_resources").rglob("test_*.py"))
    names = tuple(sorted(set(re.findall(r'(?:\bmodel=|models(?:\.with_\w+)?\.delete\(\s*)"([^"]+)"', text))))
    routes = []
    for n, name in enumerate(names):
        spec = {"models": [name], "targets": [{"backend": "mock", "model": name}]}
        routes.append(ModelRoute.parse({"metadata": {"name": f"r{n}"}, "spec": spec}))
    return [external("mock", url, models=names, stored="All")], routes
