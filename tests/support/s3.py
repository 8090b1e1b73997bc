"""A real S3 server on a folder of this machine: the Versity gateway, which checks signatures, ETags and ranges."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import obstore
from obstore.store import S3Store
from tests.cluster.programs import ensure
from tests.support.server_program import ServerProgram

KEY, WORD = "pointsman", "pointsman-secret"


class S3(ServerProgram):
    """The server, on a folder of this machine."""

    def __init__(self, root: Path, port: int, bind: str = "127.0.0.1") -> None:
        """`root` becomes the folder of all buckets; on a file system with extended attributes."""
        super().__init__()
        self.root, self.port, self._bind = root, port, bind

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def command(self) -> list[str | Path]:
        (self.root / "ready").mkdir(parents=True, exist_ok=True)
        address = ["--port", f"{self._bind}:{self.port}", "--access", KEY, "--secret", WORD, "--quiet", "--keep-alive"]
        return [ensure(["versitygw"])["versitygw"], *address, "posix", self.root]

    def answers(self) -> bool:
        try:
            list(obstore.list(self.store("ready")))
        except obstore.exceptions.BaseError:
            return False
        return True

    def store(self, bucket: str) -> S3Store:
        """A client of a bucket."""
        config: Any = {
            "endpoint": self.endpoint,
            "access_key_id": KEY,
            "secret_access_key": WORD,
            "region": "us-east-1",
        }
        options: Any = {"allow_http": True, "connect_timeout": timedelta(seconds=2)}
        retries: Any = {"max_retries": 0}
        return S3Store(bucket, config=config, client_options=options, retry_config=retries)

    def put(self, bucket: str, key: str, content: bytes | Path) -> str:
        """An object; returns its ETag. The bucket is made."""
        (self.root / bucket).mkdir(exist_ok=True)
        return str(obstore.put(self.store(bucket), key, content)["e_tag"])
