"""A random table that uses all that routes offer, and random requests for it. Drawn from a seed; no I/O."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, replace
from typing import Any

BACKENDS = tuple(f"b{n}" for n in range(8))
MODELS = tuple(f"served-{n}" for n in range(4))
ROUTES = 24
STRATEGIES = ("Auto", "Weighted", "LeastInFlight", "LowestLatency", "LowestCost", "PrefixAffinity")
TASKS = ("code_generation", "code_analysis", "reasoning", "general_chat", "planning", "text_generation")
TEAMS = ("red", "blue", "green-1", "green-2")
ATTEMPTS = 16


def manifests(seed: int, ports: dict[str, int]) -> str:
    """One document for each resource."""
    draw = random.Random(f"{seed}/table")
    documents = [_backend(draw, name, ports[name]) for name in BACKENDS]
    documents += [_route(draw, n) for n in range(ROUTES)]
    return "\n---\n".join(json.dumps(d) for d in documents)


def _resource(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "pointsman.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def _backend(draw: random.Random, name: str, port: int) -> dict[str, Any]:
    models = []
    for model in MODELS:
        one: dict[str, Any] = {"name": model}
        if draw.random() < 0.3:
            one["capabilities"] = [
                "Chat",
                *draw.sample(["Tools", "Vision", "Code", "Reasoning", "Embeddings"], draw.randint(0, 3)),
            ]
        if draw.random() < 0.3:
            one["contextLength"] = draw.choice([500, 4000, 100_000])
        if draw.random() < 0.4:
            prices = {"inputPerMillionTokens": draw.choice(["0.1", "2"]), "outputPerMillionTokens": "8"}
            one["pricing"] = prices
        models.append(one)
    spec: dict[str, Any] = {
        "engine": "External",
        "external": {"url": f"http://127.0.0.1:{port}/v1"},
        "models": models,
        "probe": {"interval": "500ms", "timeout": "2s", "successThreshold": 1},
    }
    if draw.random() < 0.3:
        spec["limits"] = {"maxInFlight": draw.randint(1, 3), "maxQueued": 0}
    return _resource("LLMBackend", name, spec)


def _targets(draw: random.Random) -> list[dict[str, Any]]:
    pairs = draw.sample([(b, m) for b in BACKENDS for m in MODELS], draw.randint(1, 7))
    found = []
    for backend, model in pairs:
        target: dict[str, Any] = {"backend": backend, "model": model, "priority": draw.choice([0, 0, 0, 1, 1, 2])}
        if draw.random() < 0.4:
            target["weight"] = draw.choice([0, 1, 5, 90])
        found.append(target)
    return found


def _route(draw: random.Random, n: int) -> dict[str, Any]:
    strategy = STRATEGIES[n % len(STRATEGIES)]
    rules = []
    for _ in range(draw.choice([0, 0, 1, 3])):
        match: dict[str, Any] = draw.choice(
            [
                {"taskTypes": draw.sample(["CodeGeneration", "Reasoning", "GeneralChat"], 2)},
                {"capabilities": [draw.choice(["Tools", "Vision"])]},
                {"headers": [{"name": "X-Team", "value": draw.choice(TEAMS)}]},
                {"headers": [{"name": "x-team", "type": "Glob", "value": "green-*"}]},
                {"minContextLength": 300},
                {"maxContextLength": 50, "headers": [{"name": "x-team", "value": "red"}]},
            ]
        )
        rules.append({"match": match, "targets": _targets(draw)})
    spec: dict[str, Any] = {
        "models": [f"exact-{n}", f"glob-{n}-*"],
        "targets": _targets(draw),
        "strategy": strategy,
        "fallback": {
            "maxAttempts": ATTEMPTS,
            "mode": "None" if draw.random() < 0.1 else "Auto",
            "whenAllUnhealthy": draw.choice(["TryOne", "TryOne", "Fail"]),
        },
        "timeouts": {"connect": "1s", "firstToken": "5s", "answer": "5s", "total": "20s"},
    }
    if rules:
        spec["rules"] = rules
    if strategy == "Weighted" and draw.random() < 0.7:
        spec["sticky"] = {"header": "x-user"} if draw.random() < 0.5 else {}
    return _resource("ModelRoute", f"r{n}", spec)


LACKING = {"/v1/embeddings": ("b1", "b4", "b6"), "/v1/responses": ("b4", "b7")}
"""Backends that do not know an operation, and say so."""


@dataclass(frozen=True)
class Request:
    """Headers as lines, and the body."""

    id: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def model(self) -> str:
        return str(json.loads(self.body)["model"])

    def continuing(self, answer_id: str, model: str) -> Request:
        """The same, continuing a response of that id."""
        return replace(self, body=json.dumps(json.loads(self.body) | {"model": model, **previous(answer_id)}).encode())


def previous(answer_id: str) -> dict[str, str]:
    return {"previous_response_id": answer_id}


def request(seed: int, number: int) -> Request:
    draw = random.Random(f"{seed}/request/{number}")
    n = draw.randrange(ROUTES)
    content: Any = "say something " * draw.choice([1, 1, 1, 40, 200, 2000]) + str(draw.randrange(20))
    if draw.random() < 0.15:
        image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
        content = [{"type": "text", "text": content}, image]
    body: dict[str, Any] = {
        "model": draw.choice([f"exact-{n}", f"glob-{n}-{draw.randrange(3)}"]),
        "messages": [{"role": "user", "content": content}],
    }
    path = draw.choices(("/v1/chat/completions", "/v1/responses", "/v1/embeddings"), (70, 18, 12))[0]
    if path != "/v1/chat/completions":
        body["input"] = body.pop("messages")
    if path == "/v1/responses" and draw.random() < 0.3:
        body["store"] = False
    headers = {"x-request-id": f"a{number}"}
    if draw.random() < 0.4:
        body["stream"] = True
    if draw.random() < 0.2:
        body["tools"] = [{"type": "function", "function": {"name": "f"}}]
    if draw.random() < 0.3:
        body["user"] = f"user-{draw.randrange(10)}"
    if draw.random() < 0.15 and path != "/v1/embeddings":
        body["task_type"] = draw.choice(TASKS)
    elif draw.random() < 0.1:
        headers["x-pointsman-task-type"] = draw.choice(TASKS)
    if draw.random() < 0.4:
        headers["x-team"] = draw.choice(TEAMS)
    if draw.random() < 0.3:
        headers["x-user"] = f"user-{draw.randrange(10)}"
    if draw.random() < 0.05:
        headers["x-pointsman-fallback"] = "none"
    return Request(f"a{number}", path, headers, json.dumps(body).encode())
