"""Which models of the catalogue serve a task on given memory: ranked, with the reason for each. Pure.

Decided here: what may be recommended (it fits, by the estimate of the condition Fits, with the asked context), in
which order (made for the task first, then the larger model, then the newer), which engine and form of a model (on GPUs
vLLM before Ollama before llama.cpp, on CPUs Ollama first; of one engine the finest form that fits), and the manifest.
A model is judged by its size and by what its makers made it for; nobody's benchmark is in here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pointsman.api import meta
from pointsman.api.engine import Engine
from pointsman.api.objects import LLMBackend
from pointsman.catalogue.catalogue import Entry, Form, Source, Task
from pointsman.engines.memory import GIB, Estimate, demand, estimate

_ON_GPUS = (Engine.VLLM, Engine.OLLAMA, Engine.LLAMA_CPP)
_ON_CPUS = (Engine.OLLAMA, Engine.LLAMA_CPP)
_FORMS = tuple(Form)
"""From the finest to the coarsest."""
_SPARE_GIB = 2
TOKEN_SECRET = "hf-token"  # noqa: S105  a name
"""The Secret with a Hub's token, in manifests of gated models."""


@dataclass(frozen=True)
class Wish:
    """What is asked for."""

    task: Task
    memory: int
    """Bytes of one GPU; without GPUs, of the pod."""
    gpus: int = 1
    """0: none."""
    context: int = 8192
    engine: Engine | None = None
    category: str | None = None


@dataclass(frozen=True)
class Choice:
    """A model that fits."""

    entry: Entry
    source: Source
    estimate: Estimate
    manifest: dict[str, Any]

    def why(self, task: Task) -> str:
        e = self.estimate
        made = f"made for {task.value}" if self.entry.tasks[0] is task else f"good for {task.value} too"
        cache = f" + {e.cache / GIB:.1f} for {e.tokens} tokens" if e.cache else ""
        return (
            f"{made}; {self.entry.parameters:g} billion parameters as {self.source.form.value}:"
            f" {e.weights / GIB:.1f} GiB{cache} + {e.own / GIB:.0f} of the engine's own, of {e.has / GIB:.1f}"
        )

    @property
    def most(self) -> int:
        """Tokens of context that would fit."""
        return min(self.estimate.most, self.entry.context)


def recommend(entries: Iterable[Entry], wish: Wish) -> list[Choice]:
    """The best engine and form of each model that fits, best first."""
    found = [choice for entry in entries if (choice := _choice(entry, wish)) is not None]

    def rank(choice: Choice) -> tuple[Any, ...]:
        entry = choice.entry
        return (entry.tasks[0] is not wish.task, -entry.parameters, [-int(n) for n in entry.released.split("-")])

    return sorted(found, key=rank)


def _choice(entry: Entry, wish: Wish) -> Choice | None:
    if wish.task not in entry.tasks or wish.context > entry.context:
        return None
    if wish.category is not None and entry.category != wish.category:
        return None
    engines = _ON_GPUS if wish.gpus else _ON_CPUS
    wanted = engines if wish.engine is None else tuple(e for e in engines if e is wish.engine)
    for engine in wanted:
        if engine is Engine.VLLM and not entry.divides_among(wish.gpus):
            continue
        sources = (s for s in entry.sources if s.engine is engine)
        for source in sorted(sources, key=lambda s: _FORMS.index(s.form)):
            figures = entry.figures(source)
            body = manifest(entry, source, wish)
            spec = LLMBackend.parse(body).spec
            wants = demand(spec, spec.models[0], figures, wish.memory)
            assert not isinstance(wants, str), wants  # the catalogue asks for nothing that cannot be told
            fits = estimate(figures, wants, wish.memory, max(1, wish.gpus))
            if fits.fits:
                return Choice(entry, source, fits, body)
    return None


def manifest(entry: Entry, source: Source, wish: Wish) -> dict[str, Any]:
    """An LLMBackend that serves it."""
    model: dict[str, Any] = {"name": entry.name, "source": source.source}
    if source.gated:
        model["secretRef"] = {"name": TOKEN_SECRET}
    model["capabilities"] = [c.value for c in entry.capabilities]
    model["contextLength"] = wish.context
    spec: dict[str, Any] = {"engine": source.engine.value, "models": [model]}
    if source.engine is Engine.VLLM and entry.vllm:
        spec["vllm"] = dict(entry.vllm)
    size = math.ceil(entry.weights(source) / GIB * 1.1) + _SPARE_GIB
    if wish.gpus:
        spec["gpu"] = {"count": wish.gpus, "memory": f"{wish.memory // (1 << 20)}Mi"}
        if wish.memory % GIB == 0:
            spec["gpu"]["memory"] = f"{wish.memory // GIB}Gi"
    else:
        spec["resources"] = {"limits": {"memory": f"{wish.memory // (1 << 20)}Mi"}}
    spec["storage"] = {"size": f"{size}Gi"}
    name = entry.name.replace(".", "-")
    return {"apiVersion": meta.API_VERSION, "kind": meta.BACKEND_KIND, "metadata": {"name": name}, "spec": spec}
