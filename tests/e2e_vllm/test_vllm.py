"""A real vLLM from its YAML to a streamed answer, in one route with llama.cpp and Ollama; its adapters; then broken."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.cluster import images
from tests.demo.stage import ANSWER, Stage
from tests.e2e import engines, replicas
from tests.e2e.waiting import fresh, until

MODEL = f"llama-{os.getpid()}"
"""The server's process is found by it."""
SOURCE = f"hf://{engines.LLAMA}"
ROOM = {"requests": {"cpu": "200m", "memory": "2Gi"}, "limits": {"memory": "4Gi"}}
SMALL = {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "256Mi"}}
TICKING = {"name": "ticking", "source": f"hf://{engines.ADAPTER}"}
TOCKING = {**TICKING, "name": "tocking"}
START = 300
"""Seconds that a vLLM may take to start on two busy cores."""


@pytest.fixture(scope="module")
def scene(here: Stage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    for tag in (images.LLAMA_CPP, images.VLLM):
        here.cluster.load_image(tag)
    scene = replace(here, namespace=fresh("vllm"))
    scene.make_namespace()
    with engines.hub(scene, tmp_path_factory.mktemp("hub")):
        engines.apply(
            scene,
            vllm(TICKING),
            engines.backend(
                "gguf", "LlamaCpp", "gguf", f"hf://{engines.GGUF}/tiny.gguf", image=images.LLAMA_CPP, resources=SMALL,
                of_model={"contextLength": 512},
            ),
            engines.ollama(scene),
            engines.route("chat", ("vllm", MODEL), ("gguf", "gguf"), ("ollama", "tiny")),
            *(engines.route(name, ("vllm", name), ("gguf", "gguf")) for name in ("ticking", "tocking")),
        )  # fmt: skip
        for name in ("llmbackend/gguf", "llmbackend/ollama", "modelroute/chat"):
            scene.wait_ready(name, 180)
        scene.wait_ready("llmbackend/vllm", START)
        yield scene
    scene.remove_namespace()


def vllm(*adapters: dict[str, str]) -> dict[str, Any]:
    """The backend of its page, with these adapters."""
    return engines.from_page(
        "vllm", "small", "vllm", MODEL, SOURCE, image=images.VLLM, resources=ROOM, of_model={"adapters": list(adapters)}
    )


def ticks(url: str, name: str) -> bool:
    """Does the adapter answer by this name? The base model and the next target say something else."""
    got = engines.ask(url, name, max_tokens=4)
    assert got.status_code == 200, got.text
    text = got.json()["choices"][0]["message"]["content"].strip()
    return text == "tick tock tick tock" and got.headers["x-pointsman-backend"] == "vllm"


def told(scene: Stage) -> tuple[int, float]:
    """What every gateway last heard of vLLM: requests it works at, the share of its cache that is in use."""
    heard = set()
    for pod in scene.kubectl("get", "pods", "-l", "app.kubernetes.io/component=gateway", "-o", "name").split():
        path = f"/api/v1/namespaces/{scene.namespace}/pods/{pod.removeprefix('pod/')}:9090/proxy/v1/backends"
        backends = json.loads(scene.kubectl("get", "--raw", path))["backends"]
        (endpoint,) = next(b for b in backends if b["name"] == "vllm")["endpoints"]
        heard.add((endpoint.get("running", -1), endpoint.get("cache_usage", -1.0)))
    return heard.pop() if len(heard) == 1 else (-1, -1.0)


def pods(scene: Stage) -> list[str]:
    """The pods of vLLM, and how often they were started."""
    selector = "pointsman.dev/backend=vllm,app.kubernetes.io/component=engine"
    items = json.loads(scene.kubectl("get", "pods", "-l", selector, "-o", "json"))["items"]
    return [f"{p['metadata']['uid']} {p['status']['containerStatuses'][0]['restartCount']}" for p in items]


def server() -> list[int]:
    """The process that listens."""
    return engines.processes("--served-model-name", MODEL)


def below(pid: int) -> list[int]:
    """It and all that descend from it."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


def test_from_its_yaml_to_a_streamed_answer(scene: Stage) -> None:
    with scene.gateway() as url:
        assert engines.streamed(url, "chat") == (ANSWER, "vllm")
    models = scene.get("pmb", "vllm")["status"]["models"]
    assert [(m["name"], m["state"], m["digest"].startswith("sha256:")) for m in models] == [
        (MODEL, "Pulled", True), ("ticking", "Pulled", True),
    ]  # fmt: skip


def test_it_tells_nobody_and_writes_only_where_it_may(scene: Stage) -> None:
    (pid,) = server()
    said = dict(w.split("=", 1) for w in Path(f"/proc/{pid}/environ").read_text().split("\0") if "=" in w)
    assert (said["HF_HUB_OFFLINE"], said["VLLM_NO_USAGE_STATS"], said["DO_NOT_TRACK"]) == ("1", "1", "1")
    status = Path(f"/proc/{pid}/status").read_text()
    assert "Uid:\t65532\t65532" in status
    assert "CapEff:\t0000000000000000" in status
    root = next(line.split() for line in Path(f"/proc/{pid}/mounts").read_text().splitlines() if " / " in line)
    assert "ro" in root[3].split(",")


def test_an_adapter_answers_by_its_own_name(scene: Stage) -> None:
    with scene.gateway() as url:
        assert ticks(url, "ticking")
        assert engines.answered_by(url, "chat") == "vllm"


def test_adapters_come_and_go_and_nothing_starts_anew(scene: Stage) -> None:
    before = pods(scene)
    with scene.gateway() as url:
        assert engines.answered_by(url, "tocking") == "gguf", "there is no such adapter yet"
        engines.apply(scene, vllm(TICKING, TOCKING))
        until(lambda: ticks(url, "tocking"), "the new adapter answers", 90)
        assert ticks(url, "ticking")
        engines.apply(scene, vllm(TOCKING))
        until(lambda: not ticks(url, "ticking"), "the adapter that left no longer answers", 90)
        assert engines.answered_by(url, "ticking") == "gguf"
        assert ticks(url, "tocking")
    assert pods(scene) == before
    scene.wait_ready("llmbackend/vllm", 60)


def test_its_own_load_is_read(scene: Stage) -> None:
    """What the gateways show of an endpoint comes from vLLM's own page of metrics."""
    with scene.gateway() as url:
        until(lambda: told(scene) == (0, 0.0), "it is at rest", 60)
        body = {"model": "tocking", "messages": [{"role": "user", "content": "Hello?"}], "stream": True}
        with httpx.stream("POST", f"{url}/v1/chat/completions", json={**body, "max_tokens": 1900}, timeout=90) as got:
            assert got.headers["x-pointsman-backend"] == "vllm"
            until(
                lambda: told(scene)[0] == 1 and told(scene)[1] > 0, "a request and its part of the cache are seen", 60
            )
        until(lambda: told(scene) == (0, 0.0), "it is at rest again: the stream was ended with its client", 60)


def test_frozen_the_next_one_answers_and_the_status_says_so(scene: Stage) -> None:
    """The engine's processes stand still, the one that listens does not: it takes requests and never answers."""
    with scene.gateway() as url:
        (pid,) = server()
        with engines.frozen(below(pid)[1:]):
            assert engines.answered_by(url, "chat") == "gguf"
            until(lambda: engines.health(scene, "vllm") == "Unhealthy", "the status says that it is unhealthy", 60)
            assert {engines.answered_by(url, "chat") for _ in range(4)} == {"gguf"}
        engines.served_by(url, "chat", "vllm", 120)
    until(lambda: engines.health(scene, "vllm") == "Healthy", "the status says that it is healthy", 120)


def test_killed_nobody_notices_and_it_comes_back(scene: Stage) -> None:
    """Its engine dies, and it does not: its own check says so, and it is started anew."""
    with scene.gateway() as url:
        (pid,) = server()
        for child in below(pid)[1:]:
            os.kill(child, signal.SIGKILL)
        assert {engines.answered_by(url, "chat") for _ in range(4)} <= {"vllm", "gguf"}
        until(lambda: pid not in server(), "it has ended", 120)
        assert {engines.answered_by(url, "chat") for _ in range(4)} == {"gguf"}
        until(server, "it was started anew", 120)
        scene.wait_ready("llmbackend/vllm", START)
        engines.served_by(url, "chat", "vllm", 120)


def test_started_anew_it_has_the_adapters_of_now(scene: Stage) -> None:
    with scene.gateway() as url:
        until(lambda: ticks(url, "tocking"), "the adapter that came while it ran answers again", 60)
        until(lambda: not ticks(url, "ticking"), "the adapter that it was first started with has left again", 60)


def test_from_none_to_one_to_three_to_none(scene: Stage) -> None:
    replicas.walk(scene, "vllm", "chat", "gguf", 2 * START)
    replicas.back(scene, "vllm", START)


def test_a_truncated_shard_is_named_and_mended(scene: Stage) -> None:
    store = engines.volume(scene, "pmb-vllm") / "pointsman"
    shard = max((p for p in store.rglob("*") if p.is_file() and not p.is_symlink()), key=lambda p: p.stat().st_size)
    before = hashlib.sha256(shard.read_bytes()).hexdigest()
    os.truncate(shard, shard.stat().st_size // 2)
    with scene.gateway() as url:
        engines.restart(scene, "vllm")
        found = engines.wait_reason(scene, "vllm", "NotAModel", 120)
        assert "model.safetensors" in found["message"]
        assert "pointsman.dev/reconcile-at" in found["message"]
        assert engines.answered_by(url, "chat") == "gguf"
        scene.kubectl("annotate", "--overwrite", "pmb/vllm", f"pointsman.dev/reconcile-at={os.getpid()}")
        until(lambda: hashlib.sha256(shard.read_bytes()).hexdigest() == before, "it is as it was", 120)
        scene.wait_ready("llmbackend/vllm", START)
        engines.served_by(url, "chat", "vllm", 120)


def test_starved_of_memory_the_cause_is_named_and_more_memory_heals_it(scene: Stage) -> None:
    """Last, because two of them are too much for a small machine: the first one is made to leave."""
    scene.kubectl("scale", "pmb/vllm", "--replicas=0")
    until(lambda: not server(), "it has left", 60)

    def starved(memory: str) -> None:
        resources = {"requests": {"cpu": "50m", "memory": "256Mi"}, "limits": {"memory": memory}}
        engines.apply(
            scene,
            engines.from_page("vllm", "small", "starved", "starved", SOURCE, image=images.VLLM, resources=resources),
        )

    starved("400Mi")
    found = engines.wait_reason(scene, "starved", "OutOfMemory", 180)
    assert found["status"] == "False"
    assert "spec.resources.limits" in found["message"]
    starved("4Gi")
    scene.wait_ready("llmbackend/starved", START)


def test_a_context_that_its_memory_cannot_hold_is_named(scene: Stage) -> None:
    scene.kubectl("delete", "pmb/starved", "--ignore-not-found")
    source = f"hf://{engines.LONG}"

    def long(context: int) -> None:
        of_model = {"contextLength": context}
        engines.apply(
            scene,
            engines.from_page(
                "vllm", "small", "long", "long", source, image=images.VLLM, resources=ROOM, of_model=of_model
            ),
        )

    long(200_000)
    found = engines.wait_reason(scene, "long", "ContextTooLong", START)
    assert "200000" in found["message"]
    assert "GPU" not in found["message"], "it has none"
    long(4096)
    scene.wait_ready("llmbackend/long", START)
