"""Which driver runs which engine."""

from __future__ import annotations

from collections.abc import Mapping

from pointsman.api.engine import Engine
from pointsman.engines.base import Driver
from pointsman.engines.custom import Custom
from pointsman.engines.external import External
from pointsman.engines.llama_cpp import LlamaCpp
from pointsman.engines.ollama import Ollama
from pointsman.engines.vllm import Vllm

DRIVERS: Mapping[Engine, Driver] = {
    Engine.OLLAMA: Ollama(),
    Engine.VLLM: Vllm(),
    Engine.LLAMA_CPP: LlamaCpp(),
    Engine.CUSTOM: Custom(),
    Engine.EXTERNAL: External(),
}
