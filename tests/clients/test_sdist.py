"""The tests that OpenAI ships with its Python client, run twice: against a mock of its API, and through the gateway
before the same mock. Each test must end alike, and the mock must have been asked the same.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest
from tests.clients.mock_openai import Asked, MockOpenAI
from tests.clients.programs import sdist_of_openai
from tests.support.running_gateway import external, gateway, table

from pointsman.api.objects import LLMBackend, ModelRoute

FILES = ("test_completions.py", "test_embeddings.py", "test_models.py", "chat", "test_responses.py", "responses")

# The first run on a machine fetches the source distribution.
pytestmark = pytest.mark.timeout(600)


@dataclass
class Run:
    outcomes: dict[str, str]
    """Test → passed, or what it said."""
    asked: list[Asked]


async def run(folder: Path, url: str, mock: MockOpenAI, report: Path) -> Run:
    mock.asked.clear()
    paths = [f"tests/api_resources/{name}" for name in FILES]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pytest", "-o", "addopts=", "-q", "-p", "no:cacheprovider", "--tb=line",
        f"--junit-xml={report}", *paths,
        cwd=folder, env=os.environ | {"TEST_API_BASE_URL": url}, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    said = (await process.communicate())[0].decode()
    assert report.exists(), said
    outcomes = {}
    for case in ElementTree.parse(report).iter("testcase"):
        trouble = next((c.get("message", "") for c in case if c.tag in ("failure", "error", "skipped")), None)
        outcomes[f"{case.get('classname')}.{case.get('name')}"] = "passed" if trouble is None else trouble
    return Run(outcomes, list(mock.asked))


async def test_same_results_through_the_gateway(tmp_path: Path) -> None:
    folder = sdist_of_openai()
    async with MockOpenAI() as mock:
        direct = await run(folder, mock.url, mock, tmp_path / "direct.xml")
        assert set(direct.outcomes.values()) == {"passed"}, "the mock itself"
        async with gateway(table(*line(folder, mock.url))) as running:
            through = await run(folder, f"http://127.0.0.1:{running.port}/v1", mock, tmp_path / "through.xml")
    different = {name: said for name, said in through.outcomes.items() if said != direct.outcomes[name]}
    assert len(through.outcomes) == len(direct.outcomes) > 400
    print("\n".join(f"{k}: {v[:100]}" for k, v in different.items()), len(different))
    assert not different


def line(folder: Path, url: str) -> tuple[list[LLMBackend], list[ModelRoute]]:
    """Each model that the tests ask for, by its own name."""
    text = "".join(p.read_text() for p in (folder / "tests" / "api_resources").rglob("test_*.py"))
    names = tuple(sorted(set(re.findall(r'\bmodel="([^"]+)"', text))))
    routes = []
    for n, name in enumerate(names):
        spec = {"models": [name], "targets": [{"backend": "mock", "model": name}]}
        routes.append(ModelRoute.parse({"metadata": {"name": f"r{n}"}, "spec": spec}))
    return [external("mock", url, models=names)], routes
