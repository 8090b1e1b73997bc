"""A real `llama-server` from its YAML to a streamed answer beside Ollama; then broken in every way that it can be."""

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
from tests.e2e import engines, replicas
from tests.e2e.waiting import fresh, until

MODEL = f"gguf-{os.getpid()}"
"""The server's process is found by it."""
SOURCE = f"hf://{engines.GGUF}/tiny.gguf"
SMALL = {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "256Mi"}}


@pytest.fixture(scope="module")
def scene(here: Stage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    here.cluster.load_image(images.LLAMA_CPP)
    scene = replace(here, namespace=fresh("llama-cpp"))
    scene.make_namespace()
    with engines.hub(scene, tmp_path_factory.mktemp("hub")):
        engines.apply(
            scene,
            engines.from_page(
                "llama-cpp", "qwen-small", "gguf", MODEL, SOURCE, image=images.LLAMA_CPP, resources=SMALL,
                of_model={"contextLength": 512},
            ),
            engines.ollama(scene),
            engines.route("chat", ("gguf", MODEL), ("ollama", "tiny")),
            engines.route("other", ("ollama", "tiny"), ("gguf", MODEL)),
        )  # fmt: skip
        for name in ("llmbackend/gguf", "llmbackend/ollama", "modelroute/chat"):
            scene.wait_ready(name, 180)
        yield scene
    scene.remove_namespace()


def test_from_its_yaml_to_a_streamed_answer(scene: Stage) -> None:
    with scene.gateway() as url:
        assert engines.streamed(url, "chat") == (ANSWER, "gguf")
    (model,) = scene.get("pmb", "gguf")["status"]["models"]
    assert (model["state"], model["digest"].startswith("sha256:"), model["sizeBytes"] > 50_000_000) == (
        "Pulled", True, True,
    )  # fmt: skip


@pytest.mark.parametrize(("name", "route", "spare"), [("gguf", "chat", "ollama"), ("ollama", "other", "gguf")])
def test_from_none_to_one_to_three_to_none(scene: Stage, name: str, route: str, spare: str) -> None:
    replicas.walk(scene, name, route, spare, 120)
    replicas.back(scene, name, 120)


def test_killed_nobody_notices_and_it_comes_back(scene: Stage) -> None:
    with scene.gateway() as url:
        (pid,) = engines.processes("/app/llama-server", MODEL)
        os.kill(pid, signal.SIGKILL)
        assert {engines.answered_by(url, "chat") for _ in range(4)} <= {"gguf", "ollama"}
        until(lambda: engines.processes("/app/llama-server", MODEL) not in ([], [pid]), "it was started anew", 60)
        engines.served_by(url, "chat", "gguf")
    scene.wait_ready("llmbackend/gguf")


def test_frozen_the_next_one_answers_and_the_status_says_so(scene: Stage) -> None:
    with scene.gateway() as url:
        with engines.frozen(engines.processes("/app/llama-server", MODEL)):
            assert engines.answered_by(url, "chat") == "ollama"
            until(lambda: engines.health(scene, "gguf") == "Unhealthy", "the status says that it is unhealthy", 30)
            assert {engines.answered_by(url, "chat") for _ in range(4)} == {"ollama"}
        engines.served_by(url, "chat", "gguf")
    # A minute of probation: it has traffic, and one failure is enough to lose it again.
    until(lambda: engines.health(scene, "gguf") == "Healthy", "the status says that it is healthy", 120)


def test_starved_of_memory_the_cause_is_named_and_more_memory_heals_it(scene: Stage) -> None:
    """Half a gigabyte of KV cache in a container of 128 MiB."""
    limits = {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}}

    def starved(context: int) -> None:
        engines.apply(
            scene,
            engines.backend(
                "starved", "LlamaCpp", "starved", SOURCE, image=images.LLAMA_CPP, resources=limits,
                of_model={"contextLength": context},
            ),
        )  # fmt: skip

    starved(262144)
    found = engines.wait_reason(scene, "starved", "OutOfMemory", 120)
    assert found["status"] == "False"
    assert "spec.resources.limits" in found["message"]
    starved(512)
    scene.wait_ready("llmbackend/starved", 120)
    scene.kubectl("delete", "pmb/starved", "--wait=true", timeout=120)


def damaged(scene: Stage) -> Path:
    """The one large file of the store."""
    store = engines.volume(scene, "pmb-gguf") / "pointsman"
    return max((p for p in store.rglob("*") if p.is_file() and not p.is_symlink()), key=lambda p: p.stat().st_size)


def harmed(file: Path, harm: str) -> None:
    with file.open("r+b") as opened:
        if harm == "cut off":
            opened.truncate(file.stat().st_size // 2)
        elif harm == "other first bytes":
            opened.write(b"JUNK")
        else:
            opened.seek(-1000, os.SEEK_END)
            (byte,) = opened.read(1)
            opened.seek(-1, os.SEEK_CUR)
            opened.write(bytes([byte ^ 1]))


def mend(scene: Stage, harm: str) -> None:
    word = f"{harm.replace(' ', '-')}-{os.getpid()}"
    scene.kubectl("annotate", "--overwrite", "pmb/gguf", f"pointsman.dev/reconcile-at={word}")


@pytest.mark.parametrize(
    ("harm", "word"), [("other first bytes", "does not begin as a GGUF file does"), ("cut off", "it was cut off")]
)
def test_corrupted_the_cause_is_named_and_who_asks_has_it_mended(scene: Stage, harm: str, word: str) -> None:
    harmed(damaged(scene), harm)
    with scene.gateway() as url:
        engines.restart(scene, "gguf")
        found = engines.wait_reason(scene, "gguf", "NotAModel", 120)
        assert found["status"] == "False"
        assert word in found["message"]
        assert "pointsman.dev/reconcile-at" in found["message"]
        assert engines.answered_by(url, "chat") == "ollama"
        mend(scene, harm)
        scene.wait_ready("llmbackend/gguf", 240)
        engines.served_by(url, "chat", "gguf")


def test_a_flipped_bit_that_no_server_sees_is_found_and_mended_by_who_asks(scene: Stage) -> None:
    file = damaged(scene)
    before = hashlib.sha256(file.read_bytes()).hexdigest()
    harmed(file, "one bit")
    with scene.gateway() as url:
        engines.restart(scene, "gguf")
        scene.wait_ready("llmbackend/gguf", 120)
        mend(scene, "one bit")
        until(lambda: hashlib.sha256(damaged(scene).read_bytes()).hexdigest() == before, "it is as it was", 120)
        engines.served_by(url, "chat", "gguf")


def test_any_image_that_speaks_the_api_serves_as_engine_custom(scene: Stage) -> None:
    """The same server, which Pointsman is told nothing of but what `custom` says."""
    words = ["--host", "0.0.0.0", "--port", "9000", "--model", "$(MODEL_PATH)", "--alias", "$(MODEL_NAME)"]
    engines.apply(
        scene,
        engines.backend(
            "own", "Custom", f"own-{MODEL}", SOURCE, image=images.LLAMA_CPP, resources=SMALL,
            custom={"port": 9000, "command": ["/app/llama-server"], "args": [*words, "--threads", "1"],
                    "modelMount": "/srv/models", "writable": ["/var/cache/own"]},
        ),
        engines.route("own", ("own", f"own-{MODEL}")),
    )  # fmt: skip
    scene.wait_ready("llmbackend/own", 120)
    with scene.gateway() as url:
        assert engines.streamed(url, "own") == (ANSWER, "own")
    (pid,) = engines.processes("/app/llama-server", f"own-{MODEL}")
    assert any(w.startswith("/srv/models/") for w in Path(f"/proc/{pid}/cmdline").read_text().split("\0"))
    scene.kubectl("delete", "pmb/own", "pmr/own", "--wait=true", timeout=120)
