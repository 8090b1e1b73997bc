"""A real S3 server on a folder of this machine: the Versity gateway, which checks signatures, ETags and ranges."""

from __future__ import annotations

import subprocess
import time
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import obstore
from obstore.store import S3Store
from tests.cluster.programs import ensure

KEY, WORD = "pointsman", "pointsman-secret"


class S3:
    """The server, as a process of its own while used as a context manager."""

    def __init__(self, root: Path, port: int) -> None:
        """`root` becomes the folder of all buckets; on a file system with extended attributes."""
        self.root, self.port = root, port
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        (self.root / "ready").mkdir(parents=True, exist_ok=True)
        program = ensure(["versitygw"])["versitygw"]
        address = ["--port", f"127.0.0.1:{self.port}", "--access", KEY, "--secret", WORD, "--quiet", "--keep-alive"]
        self._process = subprocess.Popen(
            [program, *address, "posix", self.root], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 20
        while True:
            assert self._process.poll() is None, "the S3 server ended"
            try:
                list(obstore.list(self.store("ready")))
                return self
            except obstore.exceptions.BaseError:
                assert time.monotonic() < deadline, "the S3 server does not answer"
                time.sleep(0.05)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        assert self._process
        self._process.terminate()
        self._process.wait(10)

    def restart(self) -> None:
        """Ends it, breaking off what is under way, and starts it again on the same port."""
        self._end()
        self.__enter__()

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
