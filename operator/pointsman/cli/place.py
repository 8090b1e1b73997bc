"""Where a command asks: a cluster, by its kubeconfig, or one gateway on this machine, by its addresses.

In a cluster the gateways are reached through the API server (`pods/…/proxy`, `services/…/proxy`), so that whoever may
read the resources needs no port-forward and no route into the pod network.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar

import aiohttp
import click

from pointsman.api import meta
from pointsman.cli.output import EXIT_UNREACHABLE, fail
from pointsman.kube.connect import ApiError, Connection, Forbidden, NoCluster, NotFound, connect

ADMIN_PORT = 9090
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])


class Unanswered(Exception):
    """A gateway gave no usable answer. The text says what to do."""


@dataclass(frozen=True)
class Options:
    """The flags that every such command has."""

    kubeconfig: str | None
    context: str | None
    namespace: str | None
    admin: str | None
    gateway: str | None
    as_json: bool
    as_yaml: bool = False

    @property
    def local(self) -> bool:
        return bool(self.admin or self.gateway)


def options(function: F) -> F:
    """Adds the flags; the command gets them as one `Options`."""
    return options_with()(function)


def options_with(*formats: str) -> Callable[[F], F]:
    """`options`, with further forms of output."""
    return lambda function: _with_options(function, formats)


def _with_options(function: F, formats: tuple[str, ...]) -> F:
    @click.option("-n", "--namespace", help="Namespace; the context's own when not given.")
    @click.option("--kubeconfig", type=click.Path(dir_okay=False), help="Kubeconfig file (also $KUBECONFIG).")
    @click.option("--context", help="Context of the kubeconfig.")
    @click.option(
        "--admin", metavar="URL", help="A gateway's admin address instead of a cluster: http://127.0.0.1:9090."
    )
    @click.option("--gateway", metavar="URL", help="A gateway's address instead of a cluster: http://127.0.0.1:8080.")
    @click.option("-o", "--output", type=click.Choice(["table", "json", *formats]), default="table", show_default=True)
    @wraps(function)
    def wrapped(
        namespace: str | None,
        kubeconfig: str | None,
        context: str | None,
        admin: str | None,
        gateway: str | None,
        output: str,
        **rest: Any,
    ) -> Any:
        forms = (output == "json", output == "yaml")
        return function(Options(kubeconfig, context, namespace, admin, gateway, *forms), **rest)

    return wrapped  # type: ignore[return-value]


@dataclass(frozen=True)
class Place:
    """A connected place. `namespace` is empty outside a cluster."""

    options: Options
    connection: Connection | None
    session: aiohttp.ClientSession
    namespace: str

    async def list(self, plural: str) -> list[dict[str, Any]]:
        """The namespace's objects of one of our kinds, by name. Cluster only."""
        assert self.connection is not None
        path = f"/apis/{meta.API_VERSION}/namespaces/{self.namespace}/{plural}"
        try:
            items = (await self.connection.request("GET", path))["items"]
        except NotFound:
            raise Unanswered("this cluster has no Pointsman: install the chart first") from None
        return sorted(items, key=lambda item: str(item["metadata"]["name"]))

    async def admin_json(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
    ) -> Any:
        """Asks one gateway's admin port."""
        url = await self._admin_base() + path
        sent = {**(headers or {}), "Content-Type": "application/json"}
        async with self.session.request(method, url, data=body, headers=sent, params=params) as answer:
            if answer.status >= 400:
                raise Unanswered(error_message(await answer.text()))
            return await answer.json()

    @asynccontextmanager
    async def chat(self, body: bytes) -> AsyncIterator[aiohttp.ClientResponse]:
        """One chat request through the gateway, as a client sends it."""
        url = await self._gateway_base() + "/v1/chat/completions"
        async with self.session.post(url, data=body, headers={"Content-Type": "application/json"}) as answer:
            yield answer

    async def _admin_base(self) -> str:
        if self.connection is None:
            return (self.options.admin or f"http://127.0.0.1:{ADMIN_PORT}").rstrip("/")
        pod = await self._gateway_pod()
        return f"{self.connection.server}/api/v1/namespaces/{self.namespace}/pods/{pod}:{ADMIN_PORT}/proxy"

    async def _gateway_base(self) -> str:
        if self.connection is None:
            return (self.options.gateway or "http://127.0.0.1:8080").rstrip("/")
        await self._gateway_pod()
        service = f"services/{meta.GATEWAY_NAME}:http/proxy"
        return f"{self.connection.server}/api/v1/namespaces/{self.namespace}/{service}"

    async def _gateway_pod(self) -> str:
        """A ready gateway pod's name."""
        assert self.connection is not None
        pods = await self.connection.request(
            "GET",
            f"/api/v1/namespaces/{self.namespace}/pods",
            params={"labelSelector": f"{meta.MANAGED_BY_LABEL}={meta.MANAGED_BY},{meta.COMPONENT_LABEL}=gateway"},
        )
        for pod in pods["items"]:
            conditions = pod.get("status", {}).get("conditions", ())
            if any(c["type"] == "Ready" and c["status"] == "True" for c in conditions):
                return str(pod["metadata"]["name"])
        raise Unanswered(
            f"no gateway is ready in namespace {self.namespace}: kubectl -n {self.namespace} get pods"
            f" -l {meta.COMPONENT_LABEL}=gateway shows why"
        )


def run(opts: Options, work: Callable[[Place], Coroutine[Any, Any, R]]) -> R:
    """Runs `work` in its place; every failure to get an answer becomes one line and exit code 3."""

    async def main() -> R:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=300)
        if opts.local:
            async with aiohttp.ClientSession(timeout=timeout) as session:
                return await work(Place(opts, None, session, ""))
        async with await connect(opts.kubeconfig, opts.context) as connection:
            return await work(Place(opts, connection, connection.session, opts.namespace or connection.namespace))

    try:
        return asyncio.run(main())
    except NoCluster as error:
        fail(f"{error}; for a gateway on this machine give --admin and --gateway", EXIT_UNREACHABLE)
    except Forbidden as error:
        fail(f"the cluster refuses: {error.message}", EXIT_UNREACHABLE)
    except ApiError as error:
        fail(error.message, EXIT_UNREACHABLE)
    except Unanswered as error:
        fail(str(error), EXIT_UNREACHABLE)
    except (aiohttp.ClientError, TimeoutError) as error:
        fail(f"no answer: {error or 'it took too long'}", EXIT_UNREACHABLE)


def error_message(body: str) -> str:
    """The sentence of an error body in OpenAI's shape, or of a Status; else the body's beginning."""
    try:
        found = json.loads(body)
        return str(found["error"]["message"] if "error" in found else found["message"])
    except (ValueError, KeyError, TypeError):
        return " ".join(body.split())[:300]
