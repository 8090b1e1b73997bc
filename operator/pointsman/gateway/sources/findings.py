"""What discovery found, and which backends and routes that makes. Pure.

Decided here: which server an answer comes from, how long a silent one is kept, names, and the order of targets. Not
here: where is looked, and when (`discovery.py`).

- One External backend a server, of the models that some found route needs. Beyond 32 models, a further one.
- One ModelRoute a model name, with every server that has the model as a target, in this order: hosts as they were
  given; on one host first those that hold their model in memory (vLLM, llama.cpp), then those that load it when asked
  (LM Studio, Ollama), then others; of two alike the one on its usual port.
- Manifests win: a model name that a route of theirs has is not routed, the name of an object of theirs is not used.
- Ollama's `name:latest` is asked for as `name` too, as Ollama itself has it.
- A server that is silent is a matter of health, not of the table: it is forgotten after `FORGET_SECONDS`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from pointsman.api.objects import NAME_LIMIT, LLMBackend, ModelRoute
from pointsman.api.scalars import ModelName
from pointsman.gateway.sources.manifests import EMPTY, Manifests

FORGET_SECONDS = 600.0
MODELS_PER_BACKEND = 32
TARGETS_PER_ROUTE = 16
PROBE_INTERVAL = "5s"
"""A list of models from the same machine costs nothing."""
LATEST = ":latest"
_model_name: TypeAdapter[str] = TypeAdapter(ModelName)
Object = TypeVar("Object", LLMBackend, ModelRoute)


class Kind(StrEnum):
    """The software that answers; the value is how people call it. In the order in which targets are tried."""

    VLLM = "vLLM"
    LLAMA_CPP = "llama.cpp"
    LM_STUDIO = "LM Studio"
    OLLAMA = "Ollama"
    OTHER = "OpenAI-compatible server"


USUAL_PORTS = {Kind.OLLAMA: 11434, Kind.LM_STUDIO: 1234, Kind.LLAMA_CPP: 8080, Kind.VLLM: 8000}
_NAMES = {
    Kind.VLLM: "vllm",
    Kind.LLAMA_CPP: "llama-cpp",
    Kind.LM_STUDIO: "lm-studio",
    Kind.OLLAMA: "ollama",
    Kind.OTHER: "server",
}
_OWNERS = {"vllm": Kind.VLLM, "llamacpp": Kind.LLAMA_CPP, "organization_owner": Kind.LM_STUDIO}
_OURS = "pointsman"
_RANK = {kind: i for i, kind in enumerate(Kind)}


@dataclass(frozen=True)
class Finding:
    """A server that answered."""

    kind: Kind
    host: str
    port: int
    models: tuple[str, ...]
    """As the server calls them, sorted."""
    locked: bool = False
    """It wants an API key: no backend can be made of it."""

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Sighting:
    """A finding and when it was last made, in seconds of any one clock."""

    finding: Finding
    at: float


def listed(body: Any) -> list[Mapping[str, Any]] | None:
    """The entries of OpenAI's list of models; None when `body` is no such list. Ollama without a model says null."""
    if not isinstance(body, dict) or body.get("object") != "list" or "data" not in body:
        return None
    data = body["data"] or []
    if not isinstance(data, list) or not all(isinstance(m, dict) and isinstance(m.get("id"), str) for m in data):
        return None
    return data


def kind_of(entries: Iterable[Mapping[str, Any]], server: str) -> Kind | None:
    """Whose list of models it is, by the owner it names and the Server header; None when they do not tell."""
    owners = {str(m.get("owned_by")) for m in entries}
    kinds = {_OWNERS[o] for o in owners if o in _OWNERS}
    if len(kinds) == 1:
        return kinds.pop()
    return Kind.LLAMA_CPP if server.lower().startswith("llama.cpp") else None


def is_ours(entries: Iterable[Mapping[str, Any]]) -> bool:
    """The list of a Pointsman gateway: routing to it could go in a circle."""
    return any(m.get("owned_by") == _OURS for m in entries)


def usable(names: Iterable[str]) -> tuple[str, ...]:
    """Those that a route may name, each once."""
    found = set()
    for name in names:
        try:
            found.add(_model_name.validate_python(name))
        except ValidationError:
            continue
    return tuple(sorted(found))


def remember(known: Iterable[Sighting], found: Iterable[Finding], now: float) -> tuple[Sighting, ...]:
    """What is held to be there after a look: what answered, and what did not but did so a short while ago."""
    seen = {f.address: Sighting(f, now) for f in found}
    for s in known:
        if now - s.at < FORGET_SECONDS:
            seen.setdefault(s.finding.address, s)
    return tuple(seen[a] for a in sorted(seen))


def with_found(
    findings: Iterable[Finding], hosts: Sequence[str], manifests: Manifests, before: Manifests = EMPTY
) -> Manifests:
    """`manifests` with a backend for each server found and a route for each model name. One that differs from `before`
    gets the next generation."""
    place = {host: i for i, host in enumerate(hosts)}
    servers = sorted(findings, key=lambda f: (place.get(f.host, len(place)), f.host, *_rank(f)))
    taken = {name for route in manifests.routes.values() for name in route.spec.models}
    wanted: dict[str, list[tuple[int, str]]] = {}
    for i, server in enumerate(servers):
        for model in server.models:
            asked = asked_as(server, model)
            if asked not in taken:
                wanted.setdefault(asked, []).append((i, model))
    backends = dict(manifests.backends)
    home: dict[tuple[int, str], str] = {}
    for i, server in enumerate(servers):
        needed = sorted({model for places in wanted.values() for at, model in places if at == i})
        for start in range(0, len(needed), MODELS_PER_BACKEND):
            models = needed[start : start + MODELS_PER_BACKEND]
            name = _free(_backend_name(server, hosts), backends)
            backends[name] = _aged(LLMBackend.parse(backend_body(name, server, models)), before.backends.get(name))
            home.update(((i, model), name) for model in models)
    routes = dict(manifests.routes)
    for asked, places in sorted(wanted.items()):
        targets = [(home[place], place[1]) for place in places[:TARGETS_PER_ROUTE]]
        also = {model for _, model in places} - wanted.keys() - taken
        name = _free(_slug(asked), routes)
        body = route_body(name, [asked, *sorted(also)], targets)
        routes[name] = _aged(ModelRoute.parse(body), before.routes.get(name))
    return Manifests(backends, routes, manifests.secrets, manifests.config_maps)


def _rank(server: Finding) -> tuple[int, bool, int]:
    return _RANK[server.kind], server.port != USUAL_PORTS.get(server.kind), server.port


def asked_as(server: Finding, model: str) -> str:
    """The name of the route: the model's own, without Ollama's default tag."""
    return model.removesuffix(LATEST) if server.kind is Kind.OLLAMA else model


def backend_body(name: str, server: Finding, models: Sequence[str]) -> dict[str, Any]:
    """The manifest of a found server."""
    spec = {
        "engine": "External",
        "external": {"url": f"http://{server.address}/v1"},
        "models": [{"name": model} for model in models],
        "probe": {"interval": PROBE_INTERVAL},
    }
    return {"metadata": {"name": name, "generation": 1}, "spec": spec}


def route_body(name: str, models: Sequence[str], targets: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """The manifest of a route; targets are (backend, model), in order."""
    listed = [{"backend": b, "model": m, "priority": i} for i, (b, m) in enumerate(targets)]
    return {"metadata": {"name": name, "generation": 1}, "spec": {"models": list(models), "targets": listed}}


def _aged(new: Object, old: Object | None) -> Object:
    """`new` with the generation that it has after `old`."""
    if old is None:
        return new
    generation = old.meta.generation + (old.spec != new.spec)
    return replace(new, meta=replace(new.meta, generation=generation))


def _backend_name(server: Finding, hosts: Sequence[str]) -> str:
    """`ollama`; with the host unless it is the first, with the port unless it is the usual one."""
    name = _NAMES[server.kind]
    if hosts and server.host != hosts[0]:
        name += f"-{server.host}"
    if server.port != USUAL_PORTS.get(server.kind):
        name += f"-{server.port}"
    return _slug(name)


def _slug(text: str) -> str:
    """A name for an object, as near to `text` as the rules allow."""
    slug = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    if not slug[:1].isalpha():
        slug = f"m-{slug}"
    return slug[:NAME_LIMIT].rstrip("-")


def _free(name: str, used: Iterable[str]) -> str:
    """`name`, with a number when it is used."""
    taken = set(used)
    if name not in taken:
        return name
    n = 2
    while True:
        numbered = f"{name[: NAME_LIMIT - len(str(n)) - 1].rstrip('-')}-{n}"
        if numbered not in taken:
            return numbered
        n += 1
