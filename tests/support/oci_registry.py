"""Debian's docker-registry on loopback, and pushes to it as ORAS, Docker and image builders make them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from tests.cluster import cache, debian
from tests.support.server_program import ServerProgram

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


class DockerRegistry(ServerProgram):
    """The server, on a folder of this machine."""

    def __init__(self, root: Path, port: int, bind: str = "127.0.0.1", *, htpasswd: str = "") -> None:
        """`htpasswd`: who may ask, one line `name:bcrypt` each; anybody when empty."""
        super().__init__()
        self.root, self.port, self._bind, self._htpasswd = root, port, bind, htpasswd

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def command(self) -> list[str | Path]:
        self.root.mkdir(parents=True, exist_ok=True)
        config = self.root / "config.yml"
        settings = {
            "version": 0.1,
            "log": {"level": "error"},
            "storage": {"filesystem": {"rootdirectory": str(self.root / "data")}},
            "http": {"addr": f"{self._bind}:{self.port}"},
        }
        if self._htpasswd:
            (self.root / "htpasswd").write_text(self._htpasswd)
            settings["auth"] = {"htpasswd": {"realm": "test", "path": str(self.root / "htpasswd")}}
        config.write_text(json.dumps(settings))
        return [program(), "serve", str(config)]

    def environment(self) -> dict[str, str]:
        return {"OTEL_TRACES_EXPORTER": "none"}

    def answers(self) -> bool:
        try:
            return httpx.get(f"http://{self.host}/v2/").status_code in (200, 401)
        except httpx.TransportError:
            return False

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """It is gone meanwhile."""
        self._end()
        try:
            yield
        finally:
            self.__enter__()

    def output(self) -> Path:
        return self._log

    @property
    def _log(self) -> Path:
        return self.root / "access.log"

    def asked(self) -> list[str]:
        """The requests so far, as `GET /v2/…`."""
        return re.findall(r'"([A-Z]+ /v2/\S*) HTTP/', self._log.read_text())

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
