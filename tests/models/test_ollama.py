"""A real Ollama and our store: it sees what we pulled at once, answers by both names, and could have pulled it too."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.models.helpers import pull_noise
from tests.support.registry import TinyRegistry
from tests.support.tiny_model import ANSWER

from pointsman.models.pull import Pulled

# The first run on a machine builds Ollama, which takes minutes.
pytestmark = pytest.mark.timeout(1800)


async def listed(ollama: httpx.AsyncClient) -> dict[str, str]:
    models = (await ollama.get("/api/tags")).json()["models"]
    return {model["name"]: "sha256:" + model["digest"] for model in models}


async def answer(ollama: httpx.AsyncClient, model: str) -> Any:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "stream": False}
    response = await ollama.post("/api/chat", json=body)
    assert response.status_code == 200, response.text
    return response.json()["message"]["content"].strip()


async def test_a_running_server_answers_by_both_names(
    ollama: httpx.AsyncClient, registry: TinyRegistry, store: Path
) -> None:
    assert await listed(ollama) == {}
    pulled: Pulled = await pull_noise(registry, store, name="demo/tiny:1")
    assert await listed(ollama) == {pulled.short_name: pulled.digest, pulled.served_name: pulled.digest}
    assert await answer(ollama, pulled.served_name) == ANSWER
    assert await answer(ollama, pulled.short_name) == ANSWER
    shown = await ollama.post("/api/show", json={"model": pulled.served_name})
    assert "num_thread" in shown.json()["parameters"]


async def test_the_test_registry_is_one_that_ollama_accepts(
    ollama: httpx.AsyncClient, tree: Path, tmp_path: Path
) -> None:
    for mode in ("redirect", "location"):
        with TinyRegistry(tree, mode=mode) as registry:
            name = f"{registry.host}/demo/tiny:1"
            body = {"model": name, "insecure": True, "stream": False}
            assert (await ollama.post("/api/pull", json=body)).json() == {"status": "success"}
            ours = await pull_noise(registry, tmp_path / mode, name="demo/tiny:1")
            assert (await listed(ollama))[name] == ours.digest
