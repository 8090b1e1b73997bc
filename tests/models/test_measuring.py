"""`pointsman test` against a real Ollama: what it says of tokens and context is what the engine did."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result
from tests.models.helpers import pull_noise
from tests.support import tiny_model
from tests.support.registry import TinyRegistry, publish

from pointsman.cli.main import main

# The first run on a machine builds Ollama, which takes minutes.
pytestmark = pytest.mark.timeout(1800)


async def call(ollama: httpx.AsyncClient, *args: str) -> Result:
    """The command runs a loop of its own."""
    url = f"{str(ollama.base_url).rstrip('/')}/v1"
    return await asyncio.to_thread(CliRunner().invoke, main, ["test", "--url", url, *args])


@pytest.fixture
async def models(ollama: httpx.AsyncClient, tmp_path: Path, store: Path) -> dict[int, str]:
    """The tiny model with contexts of 512 and of 2,048 tokens, by the context."""
    root = tmp_path / "own"
    root.mkdir()
    gguf = root / "tiny.gguf"
    tiny_model.write(gguf, context=2048)
    out = {}
    for context in (512, 2048):
        params = {**tiny_model.PARAMS, "num_ctx": context}
        publish(root, f"demo/tiny:{context}", gguf, template=tiny_model.TEMPLATE, params=params)
    with TinyRegistry(root) as registry:
        for context in (512, 2048):
            out[context] = (await pull_noise(registry, store, name=f"demo/tiny:{context}")).short_name
    return out


async def test_first_token_and_tokens_are_those_of_the_engine(
    ollama: httpx.AsyncClient, models: dict[int, str]
) -> None:
    done = await call(ollama, models[2048], "-o", "json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.output)
    assert found["answer"].strip() == tiny_model.ANSWER
    body: Any = {"model": models[2048], "messages": [{"role": "user", "content": "Say hello in one short sentence."}]}
    usage = (await ollama.post("/v1/chat/completions", json=body)).json()["usage"]
    assert (found["prompt_tokens"], found["tokens"]) == (usage["prompt_tokens"], usage["completion_tokens"])
    assert 0 < found["first_token_ms"] <= found["total_ms"]
    assert found["tokens_per_second"] > 0


async def test_several_at_once(ollama: httpx.AsyncClient, models: dict[int, str]) -> None:
    done = await call(ollama, models[2048], "--runs", "6", "--at-once", "3", "-o", "json")
    load = json.loads(done.output)["load"]
    assert (load["requests"], load["at_once"], load["failed"]) == (6, 3, 0)
    assert 0 < load["first_token_ms"] <= load["worst_first_token_ms"]
    assert load["all_tokens_per_second"] > 0


async def test_context_that_is_there_is_read_whole(ollama: httpx.AsyncClient, models: dict[int, str]) -> None:
    done = await call(ollama, models[2048], "--context-length", "1800", "-o", "json")
    context = json.loads(done.output)["context"]
    assert context["ok"], done.output
    assert context["counted"] == pytest.approx(context["sent"], abs=3)
    assert 1500 < context["counted"] <= 1800
    assert context["tokens_per_second"] > 0
    assert context["recalled"] is False, "the tiny model only ever says one sentence"


async def test_a_prompt_that_is_cut_is_a_failure(ollama: httpx.AsyncClient, models: dict[int, str]) -> None:
    done = await call(ollama, models[512], "--context-length", "1800")
    assert done.exit_code == 1
    assert re.search(r"counted \d+ tokens of a prompt of \d+ \w+: it cuts prompts without a word", done.output)


async def test_an_unknown_model_is_one_line(ollama: httpx.AsyncClient) -> None:
    done = await call(ollama, "nobody:1")
    assert done.exit_code == 1
    assert "nobody:1" in done.output
    assert "Traceback" not in done.output
