"""Can this engine load what was pulled? Said by the pull's end, before the server tries. Pure.

What a source's text says already is refused when it is written (`api/backend.py`); here is what only the files tell.
"""

from __future__ import annotations

from collections.abc import Collection

from pointsman.api.model import Model
from pointsman.api.sources.source import parse_source
from pointsman.domain.formats import Format

GGUF = frozenset((Format.GGUF_FILE, Format.GGUF_IN_FOLDER))
CHECKPOINT = frozenset((Format.CHECKPOINT, Format.GGUF_FILE))
ADAPTER = frozenset((Format.ADAPTER,))


def unfit(wanted: frozenset[Format], model: Model, found: Collection[str] | None) -> str:
    """Why the model cannot be loaded and what to write, in one sentence; empty when it can be. `wanted`: one of these
    the model must be; empty: whatever it is. `found`: what the pull told; None: an earlier version's told nothing."""
    if not wanted or found is None or not wanted.isdisjoint(found):
        return ""
    if wanted == ADAPTER:
        return f"{model.source} has no adapter_config.json: write a source that is a folder with a LoRA adapter"
    if wanted == GGUF:
        return (
            f"{model.source} holds no GGUF file, or several, and engine LlamaCpp reads one: write which, as in"
            f" {parse_source(model.source or '')}/model.gguf"
        )
    return (
        f"{model.source} has no config.json, and engine VLLM reads a folder with one beside its weights: write the"
        " source of such a folder, as hf://Qwen/Qwen3-8B is"
    )
