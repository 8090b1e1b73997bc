"""Which driver runs which engine."""

from __future__ import annotations

from collections.abc import Mapping

from pointsman.api.engine import Engine
from pointsman.engines.base import Driver
from pointsman.engines.external import External
from pointsman.engines.ollama import Ollama

DRIVERS: Mapping[Engine, Driver] = {Engine.OLLAMA: Ollama(), Engine.EXTERNAL: External()}
