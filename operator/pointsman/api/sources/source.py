"""Any source of a model: which schemes there are, and which engine takes which. Pure.

One file beside this one reads each scheme. A scheme is listed for an engine when a pull brings such a model to where
that engine looks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pointsman.api.engine import Engine
from pointsman.api.sources import hf, https, oci, ollama, pvc, s3
from pointsman.api.sources.error import SourceError
from pointsman.api.sources.hf import HfSource
from pointsman.api.sources.https import HttpsSource
from pointsman.api.sources.oci import OciSource
from pointsman.api.sources.ollama import OllamaSource
from pointsman.api.sources.pvc import PvcSource
from pointsman.api.sources.s3 import S3Source

Source = OllamaSource | HfSource | HttpsSource | S3Source | OciSource | PvcSource

_READERS: Mapping[str, Callable[[str], Source]] = {
    ollama.SCHEME: ollama.parse_ollama,
    ollama.PLAIN_SCHEME: ollama.parse_ollama,
    hf.SCHEME: hf.parse_hf,
    https.SCHEME: https.parse_https,
    https.PLAIN_SCHEME: https.parse_https,
    s3.SCHEME: s3.parse_s3,
    oci.SCHEME: oci.parse_oci,
    oci.PLAIN_SCHEME: oci.parse_oci,
    pvc.SCHEME: pvc.parse_pvc,
}

_FOLDERS = (hf.SCHEME, https.SCHEME, https.PLAIN_SCHEME, s3.SCHEME, oci.SCHEME, oci.PLAIN_SCHEME, pvc.SCHEME)
SCHEMES: Mapping[Engine, tuple[str, ...]] = {
    Engine.OLLAMA: (ollama.SCHEME, ollama.PLAIN_SCHEME),
    Engine.VLLM: _FOLDERS,
    Engine.LLAMA_CPP: _FOLDERS,
    Engine.CUSTOM: _FOLDERS,
    Engine.EXTERNAL: (),
}
"""The sources of each engine's models."""


def parse_source(source: str) -> Source:
    """Raises `SourceError`."""
    for scheme, read in _READERS.items():
        if source.startswith(scheme):
            return read(source)
    raise SourceError(f"{source!r} does not start with one of {', '.join(_READERS)}")
