"""A real vLLM from its YAML to a streamed answer, in one route with llama.cpp and Ollama; then broken."""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.cluster import images
from tests.demo.stage import ANSWER, Stage
from tests.e2e import engines
from tests.e2e.waiting import fresh, until

MODEL = f"llama-{os.getpid()}"
"""The server's process is found by it."""
SOURCE = f"hf://{engines.LLAMA}"
ROOM = {"requests": {"cpu": "500m", "memory": "2Gi"}, "limits": {"memory": "4Gi"}}
SMALL = {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "256Mi"}}
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
            engines.from_page("vllm", "small", "vllm", MODEL, SOURCE, image=images.VLLM, resources=ROOM),
            engines.backend(
                "gguf", "LlamaCpp", "gguf", f"hf://{engines.GGUF}/tiny.gguf", image=images.LLAMA_CPP, resources=SMALL,
                of_model={"contextLength": 512},
            ),
            engines.ollama(scene),
            engines.route("chat", ("vllm", MODEL), ("gguf", "gguf"), ("ollama", "tiny")),
        )  # fmt: skip
        for name in ("llmbackend/gguf", "llmbackend/ollama", "modelroute/chat"):
            scene.wait_ready(name, 180)
        scene.wait_ready("llmbackend/vllm", START)
        yield scene
    scene.remove_namespace()


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
    (model,) = scene.get("pmb", "vllm")["status"]["models"]
    assert (model["state"], model["digest"].startswith("sha256:")) == ("Pulled", True)


def test_it_tells_nobody_and_writes_only_where_it_may(scene: Stage) -> None:
    (pid,) = server()
    said = dict(w.split("=", 1) for w in Path(f"/proc/{pid}/environ").read_text().split("\0") if "=" in w)
    assert (said["HF_HUB_OFFLINE"], said["VLLM_NO_USAGE_STATS"], said["DO_NOT_TRACK"]) == ("1", "1", "1")
    status = Path(f"/proc/{pid}/status").read_text()
    assert "Uid:\t65532\t65532" in status
    assert "CapEff:\t0000000000000000" in status
    root = next(line.split() for line in Path(f"/proc/{pid}/mounts").read_text().splitlines() if " / " in line)
    assert "ro" in root[3].split(",")


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
