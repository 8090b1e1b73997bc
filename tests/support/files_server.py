"""A web server with files of a folder, for what a well-behaved one never does: no ranges, no validators, redirects,
credentials."""

from __future__ import annotations

import hashlib
from pathlib import Path

from aiohttp import web
from tests.support.served import Server, send_file


class FilesServer(Server):
    """`/<path>` is the file; `/moved/<path>` redirects to it under another host name; `/page` is a page."""

    def __init__(self, root: Path, *, rate: float = 0) -> None:
        super().__init__(rate=rate)
        self.root = root
        self.demand = ""
        """The `Authorization` that is demanded; empty: none."""

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/page", self._page),
            web.get("/moved/{path:.+}", self._moved),
            web.get("/{path:.+}", self._file),
        ]

    async def _page(self, request: web.Request) -> web.StreamResponse:
        return web.Response(text="<html>", content_type="text/html")

    async def _moved(self, request: web.Request) -> web.StreamResponse:
        if self.demand and request.headers.get("Authorization") != self.demand:
            return web.Response(status=401)
        raise web.HTTPFound(f"http://localhost:{self.port}/{request.match_info['path']}")

    async def _file(self, request: web.Request) -> web.StreamResponse:
        file = self.root / request.match_info["path"]
        if self.demand and request.host.startswith("127.") and request.headers.get("Authorization") != self.demand:
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="files"'})
        if not file.is_file():
            return web.Response(status=404)
        tag = f'"{hashlib.sha256(str(file.stat().st_mtime_ns).encode()).hexdigest()[:16]}"'
        return await send_file(self, request, file, {} if self.faults.no_validators else {"ETag": tag})
