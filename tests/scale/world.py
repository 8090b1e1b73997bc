"""What a namespace of this size holds: half of the backends run Ollama here, half are hosted; each route has one of
both."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from types import TracebackType

from aiohttp import web
from tests.operator.bench import external, ollama, route
from tests.operator.hands import DIGEST

from pointsman.engines.ollama import PORT
from pointsman.kube.client import Client
from pointsman.kube.connect import Connection
from pointsman.kube.resources import Obj

AT_ONCE = 16
"""Objects that are written at the same time."""
SERVED = f"pointsman/tiny:{DIGEST.replace(':', '-')}"
"""What Ollama calls the model that all have, once it is pulled."""


@dataclass(frozen=True)
class Size:
    backends: int
    routes: int

    @property
    def local(self) -> list[str]:
        """Names of the backends that run here."""
        return [f"local-{n}" for n in range(self.backends // 2)]

    @property
    def hosted(self) -> list[str]:
        return [f"hosted-{n}" for n in range(self.backends - self.backends // 2)]

    @property
    def named(self) -> list[str]:
        """Names of the routes, which are those of their models too."""
        return [f"route-{n}" for n in range(self.routes)]


def hosted(name: str, namespace: str, url: str) -> Obj:
    return external(name, namespace, external={"url": url})


def objects(size: Size, namespace: str, url: str) -> list[Obj]:
    """`url`: of the hosted ones' API."""
    local, away = size.local, size.hosted
    return [
        *(ollama(name, namespace) for name in local),
        *(hosted(name, namespace, url) for name in away),
        *(
            route(name, namespace, [name], local[n % len(local)], away[n % len(away)])
            for n, name in enumerate(size.named)
        ),
    ]


async def create(api: Connection, wanted: Iterable[Obj]) -> None:
    client, left = Client(api), list(wanted)[::-1]

    async def some() -> None:
        while left:
            await client.create(left.pop())

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(some())


class Server:
    """Ollama to those that run here and an API to the hosted ones: checks and chats are answered at once.

    Listens at the machine's address that pods have on paper, for Kubernetes takes no loopback address for an endpoint.
    """

    def __init__(self, host: str) -> None:
        self.host = host
        app = web.Application()
        models = {"models": [{"name": SERVED, "model": SERVED}]}
        app.add_routes(
            [
                web.get("/api/version", _says({"version": "0.17.4"})),
                web.get("/api/tags", _says(models)),
                web.get("/v1/models", _says({"data": [{"id": "m"}]})),
                web.post("/v1/chat/completions", _chat),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)

    @property
    def url(self) -> str:
        return f"http://{self.host}:{PORT}/v1"

    async def __aenter__(self) -> Server:
        await self._runner.setup()
        await web.TCPSite(self._runner, self.host, PORT).start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()


async def _chat(request: web.Request) -> web.Response:
    await request.read()
    choice = {"index": 0, "message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}
    return web.json_response({"id": "c", "object": "chat.completion", "choices": [choice]})


def _says(body: object) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_: web.Request) -> web.Response:
        return web.json_response(body)

    return answer
