"""A real nginx that serves a folder over TLS."""

from __future__ import annotations

import socket
from pathlib import Path

from tests.cluster import debian
from tests.support.server_program import ServerProgram

_CONFIG = """
user root; daemon off; worker_processes 1; pid {work}/pid; error_log {work}/error.log;
events {{ worker_connections 256; }}
http {{
  access_log off; sendfile on;
  client_body_temp_path {work}/a; proxy_temp_path {work}/b; fastcgi_temp_path {work}/c;
  uwsgi_temp_path {work}/d; scgi_temp_path {work}/e;
  server {{
    listen {bind}:{port} ssl; server_name localhost; root {root};
    ssl_certificate {certificate}; ssl_certificate_key {key};
  }}
}}
"""


class Nginx(ServerProgram):
    """The server, with this certificate."""

    def __init__(
        self, root: Path, work: Path, port: int, certificate: Path, key: Path, bind: str = "127.0.0.1"
    ) -> None:
        super().__init__()
        self._config = work / "nginx.conf"
        self._config.write_text(
            _CONFIG.format(root=root, work=work, bind=bind, port=port, certificate=certificate, key=key)
        )
        self._log = work / "error.log"
        self._port = port

    def command(self) -> list[str | Path]:
        debian.ensure({"nginx": debian.BENCH["nginx"]})
        return ["nginx", "-c", self._config, "-e", self._log]

    def environment(self) -> dict[str, str]:
        return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}

    def answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self._port), 1).close()
        except OSError:
            return False
        return True
