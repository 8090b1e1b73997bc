"""A real vLLM whose replica is two pods: tensors go from one to the other, and the answer is that of the model.

The pods are on the one node of the test cluster; that they are two shows in their addresses, names and processes only.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.cluster import images
from tests.demo.stage import ANSWER, Stage
from tests.e2e import engines
from tests.e2e.waiting import fresh, until
from tests.support import leader_worker_sets

MODEL = f"group-{os.getpid()}"
"""Its processes are found by it."""
START = 600
"""Seconds that two of them may take to start on two busy cores."""
ROOM = {"requests": {"cpu": "250m", "memory": "2Gi"}, "limits": {"memory": "4Gi"}}
ENV = [
    {"name": "VLLM_CPU_KVCACHE_SPACE", "value": "1"},
    # vLLM compiles a step of tensor parallelism whatever --enforce-eager says, and the image has no C++ compiler.
    {"name": "TORCHDYNAMO_DISABLE", "value": "1"},
]


@pytest.fixture(scope="module")
def scene(here: Stage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    here.cluster.load_image(images.VLLM)
    leader_worker_sets.install(here.cluster)
    scene = replace(here, namespace=fresh("groups"))
    scene.make_namespace()
    with engines.hub(scene, tmp_path_factory.mktemp("hub")), leader_worker_sets.controller(here.cluster):
        engines.apply(
            scene,
            engines.backend(
                "pair", "VLLM", MODEL, f"hf://{engines.LLAMA}", image=images.VLLM, resources=ROOM, env=ENV,
                vllm={"nodes": 2, "pipelineParallelSize": 1, "enforceEager": True, "dtype": "BFloat16"},
                storage={"size": "1Gi", "accessMode": "ReadWriteMany"}, of_model={"contextLength": 256},
            ),
            engines.route("chat", ("pair", MODEL)),
        )  # fmt: skip
        scene.wait_ready("llmbackend/pair", START)
        yield scene
        scene.remove_namespace()
        until(lambda: not pods(scene), "its pods have ended", 120)
    leader_worker_sets.remove(here.cluster)


def pods(scene: Stage) -> list[dict[str, Any]]:
    found = json.loads(scene.kubectl("get", "pods", "-l", "pointsman.dev/backend=pair", "-o", "json"))["items"]
    engine = [p for p in found if "engine" in p["metadata"]["labels"]["app.kubernetes.io/component"]]
    return sorted(engine, key=lambda p: str(p["metadata"]["name"]))


def words(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")


def test_two_pods_give_one_streamed_answer(scene: Stage) -> None:
    with scene.gateway() as url:
        assert engines.streamed(url, "chat") == (ANSWER, "pair")
    assert [p["metadata"]["name"] for p in pods(scene)] == ["pmg-pair-0", "pmg-pair-0-1"]
    status = scene.get("pmb", "pair")["status"]
    assert (status["replicas"], status["readyReplicas"]) == (1, 1)


def test_each_process_was_told_its_place(scene: Stage) -> None:
    """kubelet has put in what LeaderWorkerSet's webhook gave."""
    (worker,) = engines.processes("--headless", MODEL)
    said = words(worker)
    assert said[said.index("--node-rank") + 1] == "1"
    assert said[said.index("--master-addr") + 1] == f"pmg-pair-0.pmg-pair.{scene.namespace}"
    ranks = []
    for pid in engines.processes("--nnodes", MODEL):
        said = words(pid)
        ranks.append(said[said.index("--node-rank") + 1])
    assert sorted(ranks) == ["0", "1"]


def test_worker_that_is_killed_takes_the_leader_along_and_both_come_back(scene: Stage) -> None:
    """The leader's own check goes on to say that it is well."""
    before = {p["metadata"]["uid"] for p in pods(scene)}
    (worker,) = engines.processes("--headless", MODEL)
    os.kill(worker, signal.SIGKILL)
    until(lambda: engines.condition(scene, "pair")["status"] == "False", "the status says that it is not ready", 60)
    until(lambda: len(pods(scene)) == 2 and not before & {p["metadata"]["uid"] for p in pods(scene)}, "two others", 120)
    scene.wait_ready("llmbackend/pair", START)
    with scene.gateway() as url:
        assert engines.streamed(url, "chat") == (ANSWER, "pair")
