"""Answers of the model servers that discovery looks for, for `Engine`. Shapes as seen: Ollama 0.17, LM Studio 0.3,
llama.cpp's server, vLLM 0.11, llama-cpp-python 0.3."""

from __future__ import annotations

from tests.support import openai_engine
from tests.support.engine import Answer, Reply

MODELS = "/v1/models"


def _list(owner: str | None, names: tuple[str, ...]) -> Reply:
    entry = {"object": "model"} if owner is None else {"object": "model", "owned_by": owner}
    return Reply(body={"object": "list", "data": [{"id": n, **entry} for n in names] or None})


def openai_list(owner: str | None, *names: str, server: str = "") -> dict[str, Reply | Answer]:
    listed = _list(owner, names)
    headers = {"Server": server} if server else {}
    return {MODELS: Reply(body=listed.body, headers=headers), openai_engine.CHAT: openai_engine.chat(owner or "other")}


def ollama(*names: str) -> dict[str, Reply | Answer]:
    tags = Reply(body={"models": [{"name": n, "model": n} for n in names]})
    version = Reply(body={"version": "0.17.4"})
    chat = openai_engine.chat("ollama")
    return {MODELS: _list("library", names), "/api/version": version, "/api/tags": tags, openai_engine.CHAT: chat}


def lm_studio(*names: str) -> dict[str, Reply | Answer]:
    return openai_list("organization_owner", *names)


def llama_cpp(*names: str) -> dict[str, Reply | Answer]:
    return openai_list("llamacpp", *names, server="llama.cpp")


def vllm(*names: str) -> dict[str, Reply | Answer]:
    return openai_list("vllm", *names, server="uvicorn")
