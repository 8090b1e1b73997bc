"""Debian's docker-registry on loopback, and pushes to it as ORAS, Docker and image builders make them."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
from tests.cluster import cache, debian

from pointsman.models.blob import digest_of

OCI = "application/vnd.oci.image.manifest.v1+json"
EMPTY = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": digest_of(b"{}"), "size": 2}


def program() -> Path:
    """The registry's program, unpacked into the cache of built things."""
    target = cache.root() / "programs" / cache.digest("docker-registry", "debian")
    with cache.locked("docker-registry"):
        if not target.exists():
            with cache.made_whole(target) as fresh:
                debian.unpack(("docker-registry",), fresh)
    return target / "usr" / "bin" / "docker-registry"


class DockerRegistry:
    """The server, as a process of its own while used as a context manager."""

    def __init__(self, root: Path, port: int) -> None:
        self.root, self.port = root, port
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self.root.mkdir(parents=True, exist_ok=True)
        config = self.root / "config.yml"
        settings = {
            "version": 0.1,
            "log": {"level": "error", "accesslog": {"disabled": True}},
            "storage": {"filesystem": {"rootdirectory": str(self.root / "data")}},
            "http": {"addr": self.host},
        }
        config.write_text(json.dumps(settings))
        self._process = subprocess.Popen(
            [program(), "serve", str(config)], env={**os.environ, "OTEL_TRACES_EXPORTER": "none"},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + 20
        while True:
            assert self._process.poll() is None, "the registry ended"
            try:
                httpx.get(f"http://{self.host}/v2/")
                return self
            except httpx.TransportError:
                assert time.monotonic() < deadline, "the registry does not answer"
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

    def push(self, repository: str, tag: str, layers: list[tuple[dict[str, Any], bytes]], **manifest: Any) -> str:
        """An artefact of these layers (descriptor's further fields, bytes); returns its manifest's digest."""
        described = [{**fields, **self._blob(repository, data)} for fields, data in layers]
        self._blob(repository, b"{}")
        document = {"schemaVersion": 2, "mediaType": OCI, "config": EMPTY, "layers": described, **manifest}
        return self.push_manifest(repository, tag, document)

    def push_file(self, repository: str, tag: str, name: str, file: Path) -> str:
        """An artefact of one file, which need not fit into memory."""
        with file.open("rb") as opened:
            digest = "sha256:" + hashlib.file_digest(opened, "sha256").hexdigest()
        started = httpx.post(f"http://{self.host}/v2/{repository}/blobs/uploads/").raise_for_status()
        url = httpx.URL(started.headers["location"]).copy_merge_params({"digest": digest})
        with file.open("rb") as opened:
            httpx.put(url, content=opened, timeout=300).raise_for_status()
        layer = {"mediaType": "application/octet-stream", "digest": digest, "size": file.stat().st_size}
        self._blob(repository, b"{}")
        layers = [{**layer, "annotations": {"org.opencontainers.image.title": name}}]
        return self.push_manifest(
            repository, tag, {"schemaVersion": 2, "mediaType": OCI, "config": EMPTY, "layers": layers}
        )

    def push_manifest(self, repository: str, tag: str, document: dict[str, Any]) -> str:
        """Any manifest, of the media type that it names."""
        raw = json.dumps(document).encode()
        url = f"http://{self.host}/v2/{repository}/manifests/{tag}"
        httpx.put(url, content=raw, headers={"Content-Type": document["mediaType"]}).raise_for_status()
        return digest_of(raw)

    def _blob(self, repository: str, data: bytes) -> dict[str, Any]:
        started = httpx.post(f"http://{self.host}/v2/{repository}/blobs/uploads/").raise_for_status()
        url = httpx.URL(started.headers["location"]).copy_merge_params({"digest": digest_of(data)})
        httpx.put(url, content=data, timeout=60).raise_for_status()
        return {"digest": digest_of(data), "size": len(data)}
