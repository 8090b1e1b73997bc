"""A small model registry that a real `ollama pull` accepts, with faults on demand.

As a library:

    publish(root, "demo/tiny:1", Path("tiny.gguf"), template=TEMPLATE, params={"num_ctx": 512})
    with TinyRegistry(root) as registry:
        ... f"ollama+http://{registry.host}/demo/tiny:1" ...; registry.served

As a program: `python -m tests.support.registry ROOT --host 0.0.0.0 --port 5000 [--mode …] [--rate BYTES_PER_SECOND]`.

How it answers a GET of a blob (`mode`):
    redirect   307 to the same server under another host name, as registry.ollama.ai and hf.co do
    location   200 with the bytes and a Location header, which satisfies Ollama too
    plain      200 or 206 with the bytes, as Debian's docker-registry does; a real Ollama refuses this
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import hashlib
import json
import os
import re
import shutil
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from aiohttp import web
from tests.support.served import Pace, small_buffer

MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
_MEDIA = "application/vnd.ollama.image."
_CHUNK = 256 << 10


def publish(
    root: Path,
    ref: str,
    gguf: Path,
    *,
    template: str | None = None,
    params: Mapping[str, Any] | None = None,
    system: str | None = None,
) -> str:
    """Puts a model under `ref` (`namespace/name:tag`) into the tree below `root`; returns its manifest's digest."""
    repository, _, tag = ref.rpartition(":")
    layers = [{"mediaType": _MEDIA + "model", **_put_file(root, gguf)}]
    for kind, text in (("template", template), ("system", system), ("params", json.dumps(params) if params else None)):
        if text is not None:
            layers.append({"mediaType": _MEDIA + kind, **_put(root, text.encode())})
    config = {
        "model_format": "gguf",
        "model_family": "llama",
        "model_families": ["llama"],
        "model_type": "1.1M",
        "file_type": "F32",
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": {
            "mediaType": "application/vnd.docker.container.image.v1+json",
            **_put(root, json.dumps(config).encode()),
        },
        "layers": layers,
    }
    # Compact, as Ollama writes it anew: then the digest that /api/tags shows is the registry's.
    raw = json.dumps(manifest, separators=(",", ":")).encode()
    path = root / "manifests" / repository / tag
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(raw)
    digest = "sha256:" + hashlib.sha256(raw).hexdigest()
    path.with_name(digest.replace(":", "-")).write_bytes(raw)
    return digest


def _put(root: Path, data: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(data).hexdigest()
    (root / "blobs").mkdir(parents=True, exist_ok=True)
    (root / "blobs" / f"sha256-{digest}").write_bytes(data)
    return {"digest": f"sha256:{digest}", "size": len(data)}


def _put_file(root: Path, source: Path) -> dict[str, Any]:
    with source.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    target = root / "blobs" / f"sha256-{digest}"
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        shutil.copyfile(source, target)
    return {"digest": f"sha256:{digest}", "size": source.stat().st_size}


@dataclass
class Faults:
    """What goes wrong; may be changed while the registry serves."""

    fail_gets: int = 0
    """So many of the next answers with blob bytes are a 500 instead."""
    cut_gets: int = 0
    """So many of the next answers with blob bytes break off …"""
    cut_after: int = 0
    """… after this many bytes."""
    stall_gets: int = 0
    """So many of the next answers with blob bytes go silent half-way."""
    corrupt: bool = False
    """One byte of each blob is wrong."""
    ignore_ranges: bool = False
    """Each blob comes whole, whatever range was asked for."""
    manifest_status: int = 0
    """Manifests answer with this status."""
    auth: str = ""
    """`basic` or `bearer`: demanded of all requests below /v2/."""
    username: str = ""
    """Empty with `bearer`: anybody gets a token."""
    password: str = ""
    static_token: str = ""
    """With `bearer`: also accepted."""
    hide_digests: bool = False
    """Manifests are given out by tag only."""


@dataclass
class Served:
    """One answered request."""

    path: str
    status: int
    host: str
    """The Host header."""
    authorization: str
    digest: str = ""
    """Of the blob whose bytes went out."""
    start: int = 0
    sent: int = 0
    """Bytes of the blob that went out."""


class TinyRegistry:
    """The server, in a thread of its own while used as a context manager."""

    def __init__(
        self,
        root: Path,
        *,
        mode: str = "location",
        bind: str = "127.0.0.1",
        port: int = 0,
        rate: float = 0,
        redirect_host: str = "localhost",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`rate` is bytes per second over all connections; 0: no limit."""
        self._tls = tls
        self.root = root
        self.mode = mode
        self.faults = Faults()
        self.served: list[Served] = []
        self.peak = 0
        """Most answers with blob bytes at once."""
        self._open = 0
        self.port = port
        self._bind = bind
        self._redirect_host = redirect_host
        self._pace = Pace(rate)
        self._token = base64.urlsafe_b64encode(os.urandom(12)).decode()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._runner: web.AppRunner | None = None

    @property
    def host(self) -> str:
        """`127.0.0.1:<port>`, for a model reference."""
        return f"127.0.0.1:{self.port}"

    @property
    def rate(self) -> float:
        return self._pace.rate

    @rate.setter
    def rate(self, value: float) -> None:
        self._pace.rate = value

    @property
    def bytes_served(self) -> int:
        """Bytes of blobs that went out."""
        return sum(entry.sent for entry in self.served)

    def __enter__(self) -> TinyRegistry:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self.start(), self._loop).result(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self.stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    @property
    def pace(self) -> Pace:
        """How fast it serves."""
        return self._pace

    def restart(self) -> None:
        """Breaks off all that is under way, and serves again on the same port."""
        asyncio.run_coroutine_threadsafe(self.stop(), self._loop).result(10)
        asyncio.run_coroutine_threadsafe(self.start(), self._loop).result(10)

    async def start(self) -> None:
        """Starts it on the running loop; `with` does this in a thread."""
        app = web.Application()
        app.add_routes(
            [
                web.get("/token", self._give_token),
                web.get("/data/{digest}", self._data),
                web.get("/v2", self._ping),
                web.get("/v2/", self._ping),
                web.get("/v2/{repository:.+}/manifests/{reference}", self._manifest),
                web.get("/v2/{repository:.+}/blobs/{digest}", self._blob),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._bind, self.port, ssl_context=self._tls).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Ends it, breaking off what is under way."""
        if self._runner:
            await self._runner.cleanup()

    def _note(self, request: web.Request, status: int) -> Served:
        entry = Served(request.path, status, request.host, request.headers.get("Authorization", ""))
        self.served.append(entry)
        return entry

    def _answer(self, request: web.Request, status: int, code: str, **headers: str) -> web.Response:
        self._note(request, status)
        body = {"errors": [{"code": code, "message": code.lower()}]}
        return web.json_response(body, status=status, headers=headers)

    async def _ping(self, request: web.Request) -> web.StreamResponse:
        return self._refusal(request) or web.json_response({})

    def _refusal(self, request: web.Request) -> web.Response | None:
        faults = self.faults
        if not faults.auth:
            return None
        given = request.headers.get("Authorization", "")
        if faults.auth == "basic":
            accepted, challenge = [self._basic()], 'Basic realm="tiny"'
        else:
            accepted = [f"Bearer {self._token}", *([f"Bearer {faults.static_token}"] if faults.static_token else [])]
            challenge = f'Bearer realm="{request.scheme}://{request.host}/token",service="tiny"'
        if given in accepted:
            return None
        return self._answer(request, 401, "UNAUTHORIZED", **{"WWW-Authenticate": challenge})

    def _basic(self) -> str:
        return "Basic " + base64.b64encode(f"{self.faults.username}:{self.faults.password}".encode()).decode()

    async def _give_token(self, request: web.Request) -> web.StreamResponse:
        if self.faults.username and request.headers.get("Authorization") != self._basic():
            return self._answer(request, 401, "UNAUTHORIZED")
        self._note(request, 200)
        return web.json_response({"token": self._token})

    async def _manifest(self, request: web.Request) -> web.StreamResponse:
        refusal = self._refusal(request)
        if refusal:
            return refusal
        if self.faults.manifest_status:
            return self._answer(request, self.faults.manifest_status, "UNKNOWN")
        repository, reference = request.match_info["repository"], request.match_info["reference"]
        path = self.root / "manifests" / repository / reference.replace(":", "-")
        if ".." in repository or not path.is_file() or (":" in reference and self.faults.hide_digests):
            return self._answer(request, 404, "MANIFEST_UNKNOWN")
        self._note(request, 200)
        return web.Response(body=path.read_bytes(), content_type=MANIFEST_TYPE)

    async def _blob(self, request: web.Request) -> web.StreamResponse:
        refusal = self._refusal(request)
        if refusal:
            return refusal
        if self.mode == "redirect" and request.method == "GET":
            digest = request.match_info["digest"]
            location = f"{request.scheme}://{self._redirect_host}:{self.port}/data/{digest}"
            return self._answer(request, 307, "REDIRECT", Location=location)
        return await self._data(request)

    async def _data(self, request: web.Request) -> web.StreamResponse:
        digest = request.match_info["digest"]
        path = self.root / "blobs" / digest.replace(":", "-")
        if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest) or not path.is_file():
            return self._answer(request, 404, "BLOB_UNKNOWN")
        faults, size = self.faults, path.stat().st_size
        headers = {"Accept-Ranges": "bytes", "Docker-Content-Digest": digest}
        if self.mode == "location":
            headers["Location"] = f"{request.scheme}://{request.host}{request.path}"
        if request.method == "HEAD":
            self._note(request, 200)
            return web.Response(headers={**headers, "Content-Length": str(size)})
        if faults.fail_gets > 0:
            faults.fail_gets -= 1
            return self._answer(request, 500, "UNKNOWN")
        start, stop, status = 0, size, 200
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
        if wanted and not faults.ignore_ranges:
            start, stop, status = int(wanted[1]), min(size, int(wanted[2] or size) + 1), 206
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        response = web.StreamResponse(status=status, headers={**headers, "Content-Type": "application/octet-stream"})
        response.content_length = stop - start
        entry = self._note(request, status)
        small_buffer(request.transport)
        entry.digest, entry.start = digest, start
        self._open += 1
        self.peak = max(self.peak, self._open)
        try:
            with contextlib.suppress(ConnectionError):
                await response.prepare(request)
                await self._send(request, response, path, entry, stop)
        finally:
            self._open -= 1
        return response

    async def _send(
        self, request: web.Request, response: web.StreamResponse, path: Path, entry: Served, stop: int
    ) -> None:
        faults = self.faults
        limit = stop - entry.start
        stall = False
        if faults.cut_gets > 0:
            faults.cut_gets -= 1
            limit = min(limit, faults.cut_after)
        elif faults.stall_gets > 0:
            faults.stall_gets -= 1
            limit, stall = limit // 2, True
        with path.open("rb") as file:
            file.seek(entry.start)
            while entry.sent < limit:
                at = file.tell()
                data = file.read(min(_CHUNK, limit - entry.sent))
                if faults.corrupt and at == 0:
                    data = bytes([data[0] ^ 1]) + data[1:]
                await self._pace.spend(len(data))
                await response.write(data)
                entry.sent += len(data)
        if stall:
            while request.transport:  # noqa: ASYNC110  -- until the other side gives up
                await asyncio.sleep(0.05)
        elif entry.start + entry.sent < stop and request.transport:
            request.transport.close()


async def _serve(registry: TinyRegistry) -> None:
    await registry.start()
    print(f"serving {registry.root} on port {registry.port}", flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        await registry.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve a tree of models that `publish` made.")
    parser.add_argument("root", type=Path)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--mode", choices=("redirect", "location", "plain"), default="location")
    parser.add_argument("--redirect-host", default="localhost")
    parser.add_argument("--rate", type=float, default=0, help="bytes per second, over all connections")
    parser.add_argument("--fail-gets", type=int, default=0)
    parser.add_argument("--corrupt", action="store_true")
    arguments = parser.parse_args()
    registry = TinyRegistry(
        arguments.root,
        mode=arguments.mode,
        bind=arguments.host,
        port=arguments.port,
        rate=arguments.rate,
        redirect_host=arguments.redirect_host,
    )
    registry.faults.fail_gets = arguments.fail_gets
    registry.faults.corrupt = arguments.corrupt
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(registry))


if __name__ == "__main__":
    main()
