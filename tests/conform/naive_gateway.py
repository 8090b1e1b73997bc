"""A gateway as one writes it on a Friday: looks at the status only, relays what comes, splices when it breaks."""

from __future__ import annotations

from collections.abc import Mapping

import aiohttp
from aiohttp import web


class NaiveGateway:
    """Tries `ports` in order on 500 and on errors of the connection. Use within `async with`."""

    def __init__(self, *ports: int) -> None:
        self._ports = ports
        self.url = ""
        self.headers: list[Mapping[str, str]] = []
        """Of each request that came."""

    async def __aenter__(self) -> NaiveGateway:
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5))
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._serve)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._http.close()
        await self._runner.cleanup()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        self.headers.append(request.headers)
        body = await request.read()
        out: web.StreamResponse | None = None
        for port in self._ports:
            url = f"http://127.0.0.1:{port}/v1/chat/completions"
            try:
                async with self._http.post(url, data=body, headers={"content-type": "application/json"}) as got:
                    if got.status == 500 and port != self._ports[-1]:
                        continue
                    if out is None:
                        out = web.StreamResponse(status=got.status)
                        out.content_type = got.content_type
                        await out.prepare(request)
                    async for piece in got.content.iter_any():
                        await out.write(piece)
                    return out
            except aiohttp.ClientError as error:
                failed = str(error)
        return out or web.Response(status=502, text=failed)
