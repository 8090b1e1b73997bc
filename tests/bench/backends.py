"""The backends behind the gateways: nginx with one fixed answer, or the mock, each on three addresses and one port."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.mock import ADDRESSES, ANSWER, MODELS
from tests.bench.process import LOAD_CORE, running
from tests.cluster.cache import REPOSITORY
from tests.support.ports import free_port


@contextmanager
def nginx(scratch: Path) -> Iterator[int]:
    """The cheapest backend for JSON: it does not read what it is asked."""
    port = free_port()
    config = scratch / "nginx.conf"
    listen = "".join(f"    listen {address}:{port} backlog=4096;\n" for address in ADDRESSES)
    config.write_text(f"""\
daemon off; master_process off; worker_processes 1; pid {scratch}/nginx.pid; error_log stderr error;
events {{ worker_connections 8192; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 600s; client_body_temp_path {scratch};
  server {{
{listen}
    location = /v1/chat/completions {{ default_type application/json; return 200 '{ANSWER}'; }}
    location / {{ default_type application/json; return 200 '{MODELS}'; }}
  }}
}}
""")
    with running(["nginx", "-e", "stderr", "-c", str(config)], LOAD_CORE, port, scratch / "nginx.log"):
        yield port


@contextmanager
def mock(mode: str, scratch: Path) -> Iterator[int]:
    port = free_port()
    argv = [sys.executable, "-m", "tests.bench.mock", mode, str(port)]
    with running(argv, LOAD_CORE, port, scratch / f"{mode}.log", cwd=REPOSITORY):
        yield port
