"""The options of engine LlamaCpp on the real `llama-server`: what the driver writes is what the server does.

The program runs as the container would, on this machine; only paths and port are this machine's.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.cluster import programs
from tests.e2e.waiting import until
from tests.support import tiny_model
from tests.support.ports import free_port
from tests.unit.engines.test_golden import LLAMA_CPP

from pointsman.api.backend import LLMBackendSpec
from pointsman.api.engine import Engine
from pointsman.domain.engine_load import EngineLoad, read_load
from pointsman.engines.base import Manifest
from pointsman.engines.llama_cpp import FLAGS, LlamaCpp

pytestmark = pytest.mark.timeout(900)  # the program may have to be built first
TEMPLATE = "{% for m in messages %}<|user|>{{ m.content }}{% endfor %}<|assistant|>"
LOOP = "{% for m in messages %}<|user|>{{ m.content }}{% endfor %}<|loop|>"


@pytest.fixture(scope="module")
def program() -> Path:
    return programs.ensure(["llama-server"])["llama-server"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    tiny_model.write(path, chat_template=TEMPLATE)
    return path


def container(context: int | None = None, **options: Any) -> Manifest:
    model: dict[str, Any] = {"name": "tiny", "source": "hf://org/repo/tiny.gguf"}
    if context is not None:
        model["contextLength"] = context
    spec = {"engine": "LlamaCpp", "models": [model], "resources": {"limits": {"cpu": "1"}}, "llamaCpp": options}
    return LlamaCpp().container(LLMBackendSpec.model_validate(spec), "image")


@contextmanager
def served(program: Path, model: Path, what: Manifest) -> Iterator[httpx.Client]:
    """The server with the container's own arguments."""
    port = free_port()
    words = [word.replace("$$(", "$(") for word in what["args"]]  # what kubelet makes of it
    for flag, value in (("--model", str(model)), ("--host", "127.0.0.1"), ("--port", str(port))):
        words[words.index(flag) + 1] = value
    process = subprocess.Popen([program, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            path = what["readinessProbe"]["httpGet"]["path"]
            until(lambda: process.poll() is not None or answers(client, path), "the server is ready", 30)
            assert process.poll() is None, process.stdout.read() if process.stdout else ""
            yield client
    finally:
        process.terminate()
        process.wait(20)


def answers(client: httpx.Client, path: str) -> bool:
    try:
        return client.get(path).status_code == 200
    except httpx.TransportError:
        return False


def test_every_flag_of_ours_is_known_to_the_server(program: Path) -> None:
    said = subprocess.run([program, "--help"], capture_output=True, text=True, check=True).stdout
    known = set(re.findall(r"(?<![\w-])-{1,2}[a-z][a-z0-9-]*", said))
    assert set(FLAGS) <= known, set(FLAGS) - known


def test_plain_it_answers_by_the_name_that_routes_use_and_shows_its_figures(program: Path, model: Path) -> None:
    with served(program, model, container()) as client:
        body = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}
        said = client.post("/v1/chat/completions", json=body).json()
        assert said["model"] == "tiny"
        assert said["choices"][0]["message"]["content"].strip() == tiny_model.ANSWER
        assert client.get("/v1/models").json()["data"][0]["id"] == "tiny"
        assert read_load(Engine.LLAMA_CPP, client.get("/metrics").content) == EngineLoad(running=0, waiting=0)


def test_each_of_its_slots_has_the_whole_context(program: Path, model: Path) -> None:
    with served(program, model, container(512, parallel=3)) as client:
        assert [slot["n_ctx"] for slot in client.get("/slots").json()] == [512, 512, 512]
    with served(program, model, container(512)) as client:
        assert [slot["n_ctx"] for slot in client.get("/slots").json()] == [512]


def test_a_chat_template_takes_the_place_of_the_models_own(program: Path, model: Path) -> None:
    with served(program, model, container(512, chatTemplate=LOOP)) as client:
        body = {"model": "tiny", "messages": [{"role": "user", "content": "hi $(HOME)"}], "max_tokens": 6}
        said = client.post("/v1/chat/completions", json=body).json()
        assert said["choices"][0]["message"]["content"].split() == ["tick", "tock", "tick", "tock", "tick", "tock"]


def test_embeddings_are_a_server_of_their_own(program: Path, model: Path) -> None:
    body = {"model": "tiny", "input": ["a", "b"]}
    with served(program, model, container(512, mode="Embeddings")) as client:
        refused = client.post("/v1/embeddings", json=body).text
        assert "Pooling type 'none'" in refused, "this model does not say how; embedding models do"
    with served(program, model, container(512, mode="Embeddings", pooling="Mean")) as client:
        said = client.post("/v1/embeddings", json=body)
        assert said.status_code == 200, said.text
        assert [len(d["embedding"]) for d in said.json()["data"]] == [384, 384]


def test_all_options_together_are_taken(program: Path, model: Path) -> None:
    with served(program, model, container(512, **LLAMA_CPP)) as client:
        assert len(client.get("/slots").json()) == LLAMA_CPP["parallel"]


def test_an_option_that_it_does_not_know_is_named_in_its_last_words(program: Path, model: Path) -> None:
    with (
        pytest.raises(AssertionError, match="no-such-flag"),
        served(program, model, container(extraArgs=["--no-such-flag"])),
    ):
        pass
