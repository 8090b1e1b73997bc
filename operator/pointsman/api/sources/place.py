"""Where in a store the model of a source lies for engines that read files. Pure.

    pointsman/models/<16 hex>    a link to the folder with the content; it appears when all of it is whole and verified

The name is made of the source and the pin, so that it is known before the pull: a pod can be told the path before there
is anything in it.
"""

from __future__ import annotations

import hashlib

from pointsman.api.sources.hf import HfSource
from pointsman.api.sources.https import HttpsSource
from pointsman.api.sources.oci import OciSource
from pointsman.api.sources.pvc import CLAIMS_PATH, PvcSource
from pointsman.api.sources.s3 import S3Source
from pointsman.api.sources.source import Source

MODELS = "pointsman/models"
ONLY_GGUF = "model.gguf"
"""A link to the only GGUF file of a folder, made when the folder has one under another name."""


def folder(source: Source, pin: str | None) -> str:
    """The model's folder, relative to the store."""
    key = f"{source}\n{pin or ''}"
    return f"{MODELS}/{hashlib.sha256(key.encode()).hexdigest()[:16]}"


def path(source: Source, pin: str | None) -> str:
    """What a server is told to load: the folder, or the one file that is the model. Relative to the store; of `pvc://`
    the place where pods mount the claim."""
    match source:
        case PvcSource():
            return f"{CLAIMS_PATH}/{source.claim}/{source.path}"
        case HfSource() | HttpsSource() | S3Source() if source.file:
            return f"{folder(source, pin)}/{source.file}"
        case OciSource() if source.path:
            return f"{folder(source, pin)}/{source.path}"
        case _:
            return folder(source, pin)


def gguf(source: Source, pin: str | None) -> str:
    """The GGUF file to load, as `path`: of a folder its only one, which can always be had by the name `model.gguf`."""
    place = path(source, pin)
    return place if place.endswith(".gguf") else f"{place}/{ONLY_GGUF}"
