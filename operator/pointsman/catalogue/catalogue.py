"""The catalogue of open models: data, and what follows from it.

Decided here: the shape of `models.yaml`, how many bytes a form of weights takes, what counts as small. Not here: which
model to choose (`recommend.py`).

Bits of a weight: GGUF's forms as llama.cpp measures them on Llama 3.1 8B (tools/quantize/README.md), so that small
models with large vocabularies come out a little low; AWQ: 4 bits and, for each group of 128, a scale of 16 and a zero
of 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from functools import cache
from importlib import resources
from typing import Annotated

import yaml
from pydantic import Field

from pointsman.api.base import ApiModel
from pointsman.api.engine import Engine
from pointsman.api.model import Capability
from pointsman.domain.figures import Figures

GIB = 1 << 30
_BITS: Mapping[str, float] = {
    "BF16": 16.0, "F16": 16.0, "FP8": 8.0, "Q8_0": 8.5, "Q4_K_M": 4.894, "AWQ": 4 + 20 / 128, "MXFP4": 4.25,
}  # fmt: skip
_TABLES_IN_16_BITS = ("FP8", "AWQ")
SMALL, LARGE = 5.0, 20.0
"""Thousand millions of parameters: below the first a model is small, from the second on large."""


class Task(StrEnum):
    """What one wants a model for."""

    CHAT = "chat"
    CODING = "coding"
    ANALYSIS = "analysis"
    EMBEDDINGS = "embeddings"


class Form(StrEnum):
    """How weights are written."""

    BF16 = "BF16"
    F16 = "F16"
    FP8 = "FP8"
    Q8_0 = "Q8_0"
    MXFP4 = "MXFP4"
    Q4_K_M = "Q4_K_M"
    AWQ = "AWQ"


class Source(ApiModel):
    """Where an engine gets the model from."""

    engine: Engine
    source: str
    form: Form = Field(alias="as")
    gated: bool = False
    """Its licence must be accepted at the Hub: the pull needs a token."""
    gib: float | None = None
    """Size of a checkpoint that no one form describes."""


class Entry(ApiModel):
    """A model of the catalogue."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9.-]*$", max_length=45)]
    family: str
    released: Annotated[str, Field(pattern=r"^20\d\d-\d\d$")]
    licence: str
    parameters: Annotated[float, Field(gt=0)]
    """Thousand millions."""
    vocabulary: Annotated[float, Field(gt=0)]
    """Thousand millions of parameters that are token tables."""
    layers: int
    heads: int
    kv_heads: int
    """0: an encoder, which keeps nothing."""
    head_dim: int
    window_layers: int = 0
    window: int = 0
    context: int
    tasks: Annotated[tuple[Task, ...], Field(min_length=1)]
    capabilities: tuple[Capability, ...]
    sources: Annotated[tuple[Source, ...], Field(min_length=1)]
    vllm: dict[str, str] = Field(default_factory=dict)
    """Options of engine VLLM that it needs."""

    @property
    def category(self) -> str:
        """small, medium or large."""
        return "small" if self.parameters < SMALL else "medium" if self.parameters < LARGE else "large"

    def weights(self, source: Source) -> int:
        """Bytes."""
        if source.gib is not None:
            return int(source.gib * GIB)
        bits = _BITS[source.form]
        tables = 16.0 if source.form in _TABLES_IN_16_BITS else bits
        return int(((self.parameters - self.vocabulary) * bits + self.vocabulary * tables) * 1e9 / 8)

    def figures(self, source: Source) -> Figures:
        width = 2 * self.kv_heads * self.head_dim
        return Figures(
            weights=self.weights(source),
            kv=(self.layers - self.window_layers) * width,
            window_kv=self.window_layers * width,
            window=self.window,
            context=self.context,
        )

    def divides_among(self, count: int) -> bool:
        """Can so many GPUs share its attention, as vLLM shares it out?"""
        kv = self.kv_heads or self.heads
        return self.heads % count == 0 and (kv % count == 0 or count % kv == 0)


class _File(ApiModel):
    models: tuple[Entry, ...]


@cache
def catalogue() -> tuple[Entry, ...]:
    """All entries, in the file's order."""
    text = resources.files("pointsman.catalogue").joinpath("models.yaml").read_text()
    return _File.model_validate(yaml.safe_load(text)).models
