"""`python -m tests.bench`: what a request costs through the gateway, beside its peers, in one run.

The gateway under test is pinned to core 0 with one worker; the backend and wrk share core 1. CPU per request is the
user and system time of the gateway's process tree over the requests that wrk counted. Rounds are interleaved (each
round measures every peer once) and the best of each is kept: what else the machine does only ever adds.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench import failover, streaming_mock
from tests.bench.peers import PEERS, ROOT, Peer
from tests.bench.process import Process, free_port, running
from tests.bench.report import write

GATEWAY_CORE, LOAD_CORE = 0, 1


@dataclass
class Figures:
    cpu_us: list[float] = field(default_factory=list)
    """Microseconds per request."""
    per_second: list[float] = field(default_factory=list)
    p50_us: list[float] = field(default_factory=list)
    p99_us: list[float] = field(default_factory=list)
    memory_mb: float = 0.0


@dataclass(frozen=True)
class Load:
    connections: int
    seconds: float
    stream: bool


def body(stream: bool) -> bytes:
    """A chat request of 982 bytes."""
    value = {
        "model": "chat",
        "messages": [
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": ""},
        ],
        "temperature": 0.7,
        "max_tokens": 256,
        "stream": stream,
    }
    words = "Tell me about the switches of a railway yard and who sets them. " * 20
    value["messages"][1]["content"] = words[: 982 - len(json.dumps(value))]  # type: ignore[index]
    return json.dumps(value).encode()


ANSWER = json.dumps(
    {
        "id": "chatcmpl-1234567890",
        "object": "chat.completion",
        "created": 1763800000,
        "model": "bench",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "A pointsman sets the points that send a train on."},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 212, "completion_tokens": 12, "total_tokens": 224},
    }
).ljust(371)


@contextmanager
def json_backend(scratch: Path) -> Iterator[int]:
    port = free_port()
    config = scratch / "nginx.conf"
    config.write_text(f"""\
daemon off; master_process off; worker_processes 1; pid {scratch}/nginx.pid; error_log stderr error;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 600s; client_body_temp_path {scratch};
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location = /v1/chat/completions {{ default_type application/json; return 200 '{ANSWER}'; }}
    location / {{ default_type application/json; return 200 '{{"object":"list","data":[{{"id":"bench"}}]}}'; }}
  }}
}}
""")
    with running(["nginx", "-e", "stderr", "-c", str(config)], LOAD_CORE, port, scratch / "nginx.log"):
        yield port


@contextmanager
def streaming_backend(scratch: Path) -> Iterator[int]:
    port = free_port()
    argv = [sys.executable, "-m", "tests.bench.streaming_mock", str(port)]
    with running(argv, LOAD_CORE, port, scratch / "mock.log", ROOT):
        yield port


def wrk(port: int, load: Load, scratch: Path) -> tuple[int, float, float, float]:
    """Requests, requests per second, and the median and 99th percentile of latency in µs. Raises on any bad answer."""
    script = scratch / "post.lua"
    script.write_text(
        'wrk.method = "POST"\nwrk.headers["Content-Type"] = "application/json"\n'
        f"wrk.body = [==[{body(load.stream).decode()}]==]\n"
        "done = function(s, l, r) io.write(string.format('\\nRESULT %d %d %d %d %d\\n', s.requests, s.duration,"
        " l:percentile(50), l:percentile(99), s.errors.status + s.errors.read + s.errors.connect)) end\n"
    )
    argv = [
        "taskset", "-c", str(LOAD_CORE), "wrk", "-t1", f"-c{load.connections}", f"-d{load.seconds:g}s", "-s",
        str(script), f"http://127.0.0.1:{port}/v1/chat/completions",
    ]  # fmt: skip
    done = subprocess.run(argv, check=True, capture_output=True, text=True)
    found = re.search(r"RESULT (\d+) (\d+) (\d+) (\d+) (\d+)", done.stdout)
    if found is None or int(found[1]) == 0 or int(found[5]):
        raise RuntimeError(f"bad run: {done.stdout}{done.stderr}")
    requests, duration = int(found[1]), int(found[2])
    return requests, requests / duration * 1e6, float(found[3]), float(found[4])


def measure(peer: Peer, backend: int, load: Load, scratch: Path, into: Figures) -> None:
    port = free_port()
    folder = Path(tempfile.mkdtemp(dir=scratch))
    with running(peer.command(port, backend, folder), GATEWAY_CORE, port, folder / "log", ROOT) as process:
        wrk(port, Load(load.connections, 1, load.stream), folder)
        _round(process, port, load, folder, into)


def _round(process: Process, port: int, load: Load, folder: Path, into: Figures) -> None:
    before = process.cpu_seconds()
    requests, per_second, p50, p99 = wrk(port, load, folder)
    into.cpu_us.append((process.cpu_seconds() - before) / requests * 1e6)
    into.per_second.append(per_second)
    into.p50_us.append(p50)
    into.p99_us.append(p99)
    into.memory_mb = process.memory_mb()


def compare(load: Load, rounds: int, names: list[str], scratch: Path) -> dict[str, Figures]:
    backend = streaming_backend if load.stream else json_backend
    found: dict[str, Figures] = {}
    with backend(scratch) as port:
        for n in range(rounds):
            if load.connections == 1:
                _, per_second, p50, p99 = wrk(port, load, scratch)
                direct = found.setdefault("direct", Figures())
                direct.per_second.append(per_second)
                direct.p50_us.append(p50)
                direct.p99_us.append(p99)
            for peer in PEERS:
                if names and not any(name in peer.name for name in names):
                    continue
                try:
                    measure(peer, port, load, scratch, found.setdefault(peer.name, Figures()))
                except (RuntimeError, subprocess.CalledProcessError, OSError) as e:
                    print(f"{peer.name}: not measured: {e}", file=sys.stderr)
                    continue
                f = found[peer.name]
                unit = streaming_mock.EVENTS if load.stream else 1
                print(
                    f"round {n + 1} {'stream' if load.stream else 'json'} c={load.connections} {peer.name:20}"
                    f" {f.cpu_us[-1] / unit:8.2f} µs/{'event' if load.stream else 'request'}"
                    f" {f.per_second[-1]:8.0f} req/s  p50 {f.p50_us[-1]:.0f} µs  {f.memory_mb:.0f} MB",
                    flush=True,
                )
    return {name: f for name, f in found.items() if f.per_second}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peers", nargs="*", help="only those whose name holds one of these")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        plain = compare(Load(32, args.seconds, False), args.rounds, args.peers, scratch)
        stream = compare(Load(16, args.seconds, True), args.rounds, args.peers, scratch)
        single = compare(Load(1, args.seconds, False), args.rounds, args.peers, scratch)
        failed = failover.measure()
    if args.write:
        write(plain, stream, single, failed, args.seconds, args.rounds)
    for name, f in plain.items():
        print(f"{name:20} {min(f.cpu_us):6.1f} µs/request")


if __name__ == "__main__":
    main()
