"""Where in a store the model of a source lies for engines that read files. Pure.

    pointsman/models/<16 hex>    a link to the folder with the content; it appears when all of it is whole and verified

The name is made of the source and the pin, so that it is known before the pull: a pod can be told the path before there
is anything in it.
"""

from __future__ import annotations

import hashlib

from pointsman.api.sources.hf import HfSource
from pointsman.api.sources.source import Source

MODELS = "pointsman/models"


def folder(source: Source, pin: str | None) -> str:
    """The model's folder, relative to the store."""
    key = f"{source}\n{pin or ''}"
    return f"{MODELS}/{hashlib.sha256(key.encode()).hexdigest()[:16]}"


def path(source: Source, pin: str | None) -> str:
    """What a server is told to load, relative to the store: the folder, or the one file that is the model."""
    at = folder(source, pin)
    if isinstance(source, HfSource) and source.file:
        return f"{at}/{source.file}"
    return at
