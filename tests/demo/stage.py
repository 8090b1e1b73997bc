"""What the demo stands on: a cluster with our images, a registry with a tiny model, the chart."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from tests.cluster import cache, programs, providers
from tests.cluster.cluster import Cluster
from tests.support import registry, tiny_model

ROOT = Path(__file__).parents[2]
MANIFESTS = Path(__file__).parent / "manifests"
POINTSMAN_IMAGE = "localhost/pointsman:test"
OLLAMA_IMAGE = "localhost/ollama:0.17.4"
SYSTEM = "pointsman-system"
NAMESPACE = "demo"
REGISTRY_PORT = 5050
ANSWER = "Hello from the tiny model."
TEMPLATE = "<|user|>{{ .Prompt }}<|assistant|>"
ENDLESS = "{{ .Prompt }}<|loop|>"
PARAMETERS = {"num_ctx": 512, "num_thread": 1}


@dataclass(frozen=True)
class Stage:
    """Everything is up; `registry_host` is how pods name the registry, `namespace` where resources go."""

    cluster: Cluster
    registry_host: str
    namespace: str = NAMESPACE

    def kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True, timeout: float = 60) -> str:
        """kubectl in the stage's namespace."""
        return self.cluster.kubectl("-n", self.namespace, *arguments, stdin=stdin, check=check, timeout=timeout)

    def make_namespace(self) -> None:
        """With the strictest Pod Security profile: what we run passes it, or nothing works."""
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace, "labels": labels}}
        self.cluster.kubectl("apply", "-f", "-", stdin=json.dumps(body))

    def remove_namespace(self) -> None:
        """Its pods take their time; nobody waits for them."""
        self.cluster.kubectl("delete", "namespace", self.namespace, "--wait=false")

    def apply(self, manifest: str) -> None:
        """Applies one of `manifests/`, the registry's address filled in."""
        text = (MANIFESTS / manifest).read_text().replace("${REGISTRY}", self.registry_host)
        self.kubectl("apply", "-f", "-", stdin=text)

    def get(self, kind: str, name: str) -> dict[str, Any]:
        out: dict[str, Any] = json.loads(self.kubectl("get", kind, name, "-o", "json"))
        return out

    def wait_ready(self, resource: str, seconds: float = 120) -> None:
        self.cluster.kubectl(
            "-n",
            self.namespace,
            "wait",
            "--for=condition=Ready",
            resource,
            f"--timeout={seconds:.0f}s",
            timeout=seconds + 10,
        )

    def pointsman(self, *arguments: str, check: bool = True) -> str:
        """Runs our own CLI as a user does, on this cluster and namespace."""
        done = subprocess.run(
            [sys.executable, "-m", "pointsman", *arguments, "-n", self.namespace],
            env={**os.environ, **self.cluster.environment()},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if check and done.returncode:
            raise RuntimeError(f"pointsman {' '.join(arguments)}: {done.stderr or done.stdout}")
        return done.stdout

    @contextlib.contextmanager
    def gateway(self) -> Iterator[str]:
        """The base URL of the namespace's gateway Service as this machine reaches it."""
        if self.cluster.provider == "processes":
            address = self.kubectl("get", "service", "pointsman-gateway", "-o", "jsonpath={.spec.clusterIP}")
            yield f"http://{address}:8080"
            return
        kubectl = programs.ensure(["kubectl"])["kubectl"]
        forward = subprocess.Popen(
            [kubectl, "-n", self.namespace, "port-forward", "service/pointsman-gateway", ":8080"],
            env={**os.environ, **self.cluster.environment()},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert forward.stdout is not None
        line = forward.stdout.readline()
        try:
            yield "http://127.0.0.1:" + line.split("127.0.0.1:")[1].split()[0]
        finally:
            forward.terminate()
            forward.wait()


def folder() -> Path:
    """Where the demo keeps its registry and notes; outside the checkout."""
    return cache.root() / "demo"


def publish_models(root: Path) -> None:
    """A registry tree with two models that share one file of weights of about 60 MB."""
    weights = root / "weights.gguf"
    root.mkdir(parents=True, exist_ok=True)
    if not weights.exists():
        with tempfile.NamedTemporaryFile(dir=root, delete=False) as fresh:
            pass
        tiny_model.write(Path(fresh.name), layers=4, ffn=2816)
        os.replace(fresh.name, weights)
    registry.publish(root / "tree", "demo/tiny:1", weights, template=TEMPLATE, params=PARAMETERS)
    registry.publish(root / "tree", "demo/ticker:1", weights, template=ENDLESS, params=PARAMETERS)


def start_registry(root: Path, port: int, bytes_per_second: int) -> int:
    """Starts the registry as a process of its own, waits until it answers, and returns its pid."""
    log = (root / "registry.log").open("ab")
    process = subprocess.Popen(
        [
            sys.executable, "-m", "tests.support.registry", str(root / "tree"),
            "--host", "0.0.0.0", "--port", str(port), "--rate", str(bytes_per_second),
        ],
        cwd=ROOT,
        stdout=log,
        stderr=log,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 20
    while True:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"http://127.0.0.1:{port}/v2/").status_code == 200:
                return process.pid
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the registry did not start: {(root / 'registry.log').read_text()[-500:]}")
        time.sleep(0.05)


def stop_registry(pid: int) -> None:
    """Ends the registry when the process is still ours."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        if b"tests.support.registry" in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGTERM)


def load_images(cluster: Cluster) -> None:
    for tag in (POINTSMAN_IMAGE, OLLAMA_IMAGE):
        cluster.load_image(tag)


def install(cluster: Cluster) -> None:
    """The chart as a user installs it, with our own images."""
    known = cluster.helm("list", "--namespace", SYSTEM, "--short").split()
    repository, tag = POINTSMAN_IMAGE.rsplit(":", 1)
    cluster.helm(
        "upgrade", "--install", "pointsman", str(ROOT / "charts" / "pointsman"),
        "--namespace", SYSTEM, "--create-namespace", "--wait", "--timeout", "100s",
        "--set", f"image.repository={repository},image.tag={tag},engines.ollama.image={OLLAMA_IMAGE}",
        # Kubernetes waits half of the longest grace period before it looks again at a namespace that is being deleted.
        "--set", "gateway.drainSeconds=20",
    )  # fmt: skip
    if known:  # the image has the same name as before and may be another one
        cluster.kubectl("-n", SYSTEM, "rollout", "restart", "deployment/pointsman")
        cluster.kubectl("-n", SYSTEM, "rollout", "status", "deployment/pointsman", "--timeout=60s", timeout=70)


def registry_host(cluster: Cluster, port: int = REGISTRY_PORT) -> str:
    return f"{cluster.environment()['HOST_NAME']}:{port}"


def note_registry(pid: int) -> None:
    (folder() / "registry.pid").write_text(str(pid))


def up(name: str) -> Cluster:
    return providers.up(name, "full")


def down(name: str) -> None:
    """Ends what the demo began."""
    note = folder() / "registry.pid"
    if note.exists():
        stop_registry(int(note.read_text()))
    providers.down(name)
    shutil.rmtree(folder(), ignore_errors=True)
