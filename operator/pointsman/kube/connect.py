"""The way to the API server: which one, with which credentials, and one request at a time.

Decided here: where the configuration comes from (`--kubeconfig`, else the pod's service account, else `KUBECONFIG` or
`~/.kube/config`), how a failure is told apart (a closed set of exceptions), time limits. Not here: what is read and
written (`client.py`), what is watched (`watch.py`, `reflector.py`).

Objects are plain dicts, exactly as the API server shows them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import kubernetes.aio.config
from kubernetes.aio.client import ApiClient, Configuration

REQUEST_SECONDS = 30.0
CONNECT_SECONDS = 5.0
WATCH_SILENCE_SECONDS = 75.0
"""A stream that says nothing for so long is opened again. It may be dead; of a kind of which nothing changes the API
server (1.35) sends no bookmarks either."""
CONNECTIONS = 20
LINE_LIMIT = 8 << 20
"""Bytes of the longest watch event: above etcd's limit of an object (1.5 MiB) with room."""

APPLY = "application/apply-patch+yaml"
MERGE_PATCH = "application/merge-patch+json"
JSON = "application/json"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
METADATA = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"

kube_config: Any = kubernetes.aio.config
"""Untyped in the library."""

_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class ApiError(Exception):
    """The API server, or the way to it, refused. `status` is 0 when no answer came."""

    def __init__(self, message: str, *, status: int = 0, reason: str = "", retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.reason = reason
        """The machine-readable word of the answer's Status, such as `AlreadyExists`."""
        self.retry_after = retry_after
        """Seconds the server asked to wait."""


class NotFound(ApiError):
    """404."""


class Conflict(ApiError):
    """409: the object changed meanwhile, exists already, or a precondition does not hold."""


class Forbidden(ApiError):
    """401 or 403: RBAC, admission, quota."""


class Invalid(ApiError):
    """400, 413, 415 or 422: what was sent cannot be accepted; sending it again never helps."""


class Gone(ApiError):
    """410: the resource version is too old, list again."""


class Unreachable(ApiError):
    """No answer in time, 429 or 5xx: try again later."""


class NoCluster(Exception):
    """No configuration was found. The text says where it was looked for."""


_ERRORS: Mapping[int, type[ApiError]] = {
    400: Invalid, 401: Forbidden, 403: Forbidden, 404: NotFound, 405: Invalid, 409: Conflict, 410: Gone, 413: Invalid,
    415: Invalid, 422: Invalid,
}  # fmt: skip


@dataclass(frozen=True)
class Connection:
    """One API server. `close()` it, or use it as an async context manager."""

    server: str
    """Base URL, without a slash at its end."""
    session: aiohttp.ClientSession
    """Carries TLS and, by a middleware, fresh credentials; a copy for others comes from `open_session`."""
    namespace: str
    """The pod's own namespace, or that of the kubeconfig's context; `default` otherwise."""
    open_session: Callable[[int], aiohttp.ClientSession]
    """A further session with at most so many connections; the caller closes it."""

    async def __aenter__(self) -> Connection:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self.session.close()

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = JSON,
        accept: str = JSON,
        timeout: float = REQUEST_SECONDS,
    ) -> Any:
        """One request, its answer as JSON (a `str` where the answer is no JSON). Raises `ApiError`."""
        headers = {"Accept": accept}
        data = None
        if body is not None:
            data = json.dumps(body, separators=(",", ":")).encode()
            headers["Content-Type"] = content_type
        limits = aiohttp.ClientTimeout(total=timeout, sock_connect=CONNECT_SECONDS)
        try:
            async with self.session.request(
                method, self.server + path, params=params, data=data, headers=headers, timeout=limits
            ) as response:
                raw = await response.read()
                if response.status >= 400:
                    raise _error(response, raw)
                try:
                    return json.loads(raw) if raw else {}
                except ValueError:
                    return raw.decode(errors="replace")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unreachable(f"no answer from the API server to {method} {path}: {_text(error)}") from error

    async def watch(
        self,
        path: str,
        *,
        resource_version: str = "",
        params: Mapping[str, str] | None = None,
        accept: str = JSON,
        silence: float = WATCH_SILENCE_SECONDS,
    ) -> AsyncIterator[dict[str, Any]]:
        """The events of a watch as the API server sends them, bookmarks included, until it closes the stream or says
        nothing for `silence` seconds: in both cases the next one goes on from the last version.

        Raises `Gone` when a list is due, `Unreachable` when the stream broke.
        """
        query = {"watch": "true", "allowWatchBookmarks": "true", **(params or {})}
        if resource_version:
            query["resourceVersion"] = resource_version
        limits = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=silence)
        try:
            async with self.session.get(
                self.server + path, params=query, headers={"Accept": accept}, timeout=limits
            ) as response:
                if response.status >= 400:
                    raise _error(response, await response.read())
                try:
                    async for event in _lines(response.content):
                        if event.get("type") == "ERROR":
                            raise _status_error(event.get("object") or {})
                        yield event
                except aiohttp.SocketTimeoutError:
                    return
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise Unreachable(f"the watch of {path} broke: {_text(error)}") from error


async def connect(kubeconfig: str | None = None, context: str | None = None) -> Connection:
    """Finds the cluster. `kubeconfig` is a path; without it the pod's own service account, then `KUBECONFIG`, then
    `~/.kube/config`. Raises `NoCluster`."""
    configuration = type.__call__(Configuration)
    namespace = "default"
    in_pod = False
    if not kubeconfig and not context:
        with contextlib.suppress(kube_config.ConfigException):
            kube_config.load_incluster_config(client_configuration=configuration)
            in_pod = True
    if in_pod:
        with contextlib.suppress(OSError):
            namespace = (_SERVICE_ACCOUNT / "namespace").read_text().strip() or namespace
    else:
        path = kubeconfig or os.environ.get("KUBECONFIG") or str(Path("~/.kube/config").expanduser())
        try:
            loader = await kube_config.load_kube_config(
                config_file=path, context=context, client_configuration=configuration, persist_config=False
            )
            namespace = loader.current_context["context"].get("namespace") or namespace
        except (kube_config.ConfigException, OSError, KeyError) as error:
            raise NoCluster(
                f"no Kubernetes cluster: not in a pod, and {path} cannot be used ({_text(error)})"
            ) from error
    # The client library builds the TLS context (CA, client certificate, server name); its request layer is not used.
    tls = ApiClient(configuration=configuration).rest_client.ssl_context

    async def authenticate(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """A service account's token is renewed in its file: ask for it before each request."""
        for setting in (await configuration.auth_settings()).values():
            if setting["value"]:
                request.headers[setting["key"]] = setting["value"]
        return await handler(request)

    def open_session(connections: int) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections, ssl=tls),
            middlewares=(authenticate,),
            proxy=configuration.proxy if not in_pod else None,
            trust_env=not in_pod,
            headers={"User-Agent": "pointsman"},
        )

    return Connection(configuration.host.rstrip("/"), open_session(CONNECTIONS), namespace, open_session)


async def _lines(stream: aiohttp.StreamReader) -> AsyncIterator[dict[str, Any]]:
    """One JSON object a line. Events may be larger than aiohttp's line limit, so lines are put together here."""
    rest = bytearray()
    async for chunk in stream.iter_any():
        rest += chunk
        while (end := rest.find(b"\n")) >= 0:
            line = bytes(rest[:end])
            del rest[: end + 1]
            if line.strip():
                yield json.loads(line)
        if len(rest) > LINE_LIMIT:
            raise ValueError("a watch event is longer than the limit")


def _error(response: aiohttp.ClientResponse, raw: bytes) -> ApiError:
    try:
        status = json.loads(raw)
    except ValueError:
        status = {}
    if not isinstance(status, dict):
        status = {}
    status = {"code": response.status, "message": raw[:200].decode(errors="replace"), **status}
    error = _status_error(status)
    with contextlib.suppress(KeyError, ValueError):
        error.retry_after = float(response.headers["Retry-After"])
    return error


def _status_error(status: Mapping[str, Any]) -> ApiError:
    code = int(status.get("code") or 0)
    kind = _ERRORS.get(code, Unreachable)
    return kind(str(status.get("message") or f"HTTP {code}"), status=code, reason=str(status.get("reason") or ""))


def _text(error: BaseException) -> str:
    if isinstance(error, asyncio.TimeoutError):
        return "it took too long"
    return str(error) or type(error).__name__
