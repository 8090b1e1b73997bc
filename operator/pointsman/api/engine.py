"""The engines: the software that serves models."""

from __future__ import annotations

from enum import StrEnum


class Engine(StrEnum):
    OLLAMA = "Ollama"
    VLLM = "VLLM"
    LLAMA_CPP = "LlamaCpp"
    CUSTOM = "Custom"
    EXTERNAL = "External"
