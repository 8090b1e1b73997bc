"""A real nginx that serves a folder over TLS on loopback."""

from __future__ import annotations

import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.cluster import debian

_CONFIG = """
user root; daemon off; worker_processes 1; pid {work}/pid; error_log {work}/error.log;
events {{ worker_connections 256; }}
http {{
  access_log off; sendfile on;
  client_body_temp_path {work}/a; proxy_temp_path {work}/b; fastcgi_temp_path {work}/c;
  uwsgi_temp_path {work}/d; scgi_temp_path {work}/e;
  server {{
    listen 127.0.0.1:{port} ssl; server_name localhost; root {root};
    ssl_certificate {certificate}; ssl_certificate_key {key};
  }}
}}
"""


class Nginx:
    """The server, as a process of its own while used as a context manager."""

    def __init__(self, root: Path, work: Path, port: int, certificate: Path, key: Path) -> None:
        self._config = work / "nginx.conf"
        self._config.write_text(_CONFIG.format(root=root, work=work, port=port, certificate=certificate, key=key))
        self._log = work / "error.log"
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        debian.ensure({"nginx": debian.BENCH["nginx"]})
        self._process = subprocess.Popen(
            ["nginx", "-c", str(self._config), "-e", str(self._log)], env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        )
        deadline = time.monotonic() + 10
        while True:
            assert self._process.poll() is None, self._log.read_text()
            try:
                socket.create_connection(("127.0.0.1", self._port), 1).close()
                return self
            except OSError:
                assert time.monotonic() < deadline, self._log.read_text()
                time.sleep(0.02)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process
        self._process.terminate()
        self._process.wait(10)
