"""What a pulled model looks like to a server that reads files: the closed set of what a pull tells of it."""

from __future__ import annotations

from enum import StrEnum


class Format(StrEnum):
    """A model may be several, or none, of these."""

    GGUF_FILE = "GgufFile"
    """One file of GGUF."""
    GGUF_IN_FOLDER = "GgufInFolder"
    """A folder with `model.gguf`: its only GGUF file, by this name or by a link of it."""
    CHECKPOINT = "Checkpoint"
    """A folder with `config.json`, or Mistral's `params.json`, beside its weights."""
    ADAPTER = "Adapter"
    """A folder with `adapter_config.json` (LoRA)."""
