"""The official Python client, through the gateway, to a real Ollama: every text operation."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from tests.models.helpers import pull_noise
from tests.support.registry import TinyRegistry
from tests.support.running_gateway import Running, external, gateway, route, table
from tests.support.tiny_model import ANSWER

# The first run on a machine builds Ollama, which takes minutes.
pytestmark = pytest.mark.timeout(1800)

HELLO: Any = [{"role": "user", "content": "Hello?"}]
TIMEOUTS = {"firstToken": "60s", "answer": "60s", "total": "120s"}


@pytest.fixture
async def running(ollama: httpx.AsyncClient, registry: TinyRegistry, store: Path) -> AsyncIterator[Running]:
    pulled = await pull_noise(registry, store, name="demo/tiny:1")
    model = f"{registry.host}/demo/tiny:1"
    assert pulled
    backend = external("ollama", f"{str(ollama.base_url).rstrip('/')}/v1", models=(model,))
    async with gateway(table([backend], [route(f"ollama:{model}", timeouts=TIMEOUTS)])) as made:
        yield made


@pytest.fixture
async def client(running: Running) -> AsyncIterator[openai.AsyncOpenAI]:
    url = f"http://127.0.0.1:{running.port}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key="unused", max_retries=0) as made:
        yield made


async def test_every_text_operation(running: Running, client: openai.AsyncOpenAI) -> None:
    chat = await client.chat.completions.create(model="chat", messages=HELLO)
    assert (chat.choices[0].message.content or "").strip() == ANSWER
    parts = [
        c.choices[0].delta.content or ""
        async for c in await client.chat.completions.create(model="chat", messages=HELLO, stream=True)
    ]
    assert "".join(parts).strip() == ANSWER

    text = await client.completions.create(model="chat", prompt="Hello?")
    assert text.choices[0].text.strip() == ANSWER
    texts = [
        c.choices[0].text async for c in await client.completions.create(model="chat", prompt="Hello?", stream=True)
    ]
    assert "".join(texts).strip() == ANSWER

    vectors = await client.embeddings.create(model="chat", input=["Hello?", "Bye."])
    assert len(vectors.data) == 2
    assert len(vectors.data[0].embedding) == len(vectors.data[1].embedding) > 8

    answer = await client.responses.create(model="chat", input="Hello?", store=False)
    assert answer.output_text.strip() == ANSWER
    async with client.responses.stream(model="chat", input="Hello?") as stream:
        async for _ in stream:
            pass
        assert (await stream.get_final_response()).output_text.strip() == ANSWER

    assert all(r.status == 200 for r in running.meter.requests)
    assert all(r.completion_tokens for r in running.meter.requests if r.operation != "embeddings"), "each was counted"


async def test_ollama_keeps_no_responses_and_the_caller_learns_it(client: openai.AsyncOpenAI) -> None:
    answer = await client.responses.create(model="chat", input="Hello?")
    with pytest.raises(openai.BadRequestError, match="Send the whole conversation as input") as caught:
        await client.responses.create(model="chat", input="And?", previous_response_id=answer.id)
    assert caught.value.code == "previous_response_not_found"


async def test_errors_of_a_real_engine(running: Running, client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError):
        await client.completions.create(model="chat", prompt=["one", "two"])  # it takes one prompt only
    with pytest.raises(openai.BadRequestError):
        await client.responses.create(model="chat", input=[{"type": "nonsense"}])  # type: ignore[list-item]
    assert {v[1] for v in running.meter.verdicts} == {"Caller"}
