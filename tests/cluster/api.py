"""The few calls that the cluster's own machinery makes to its API server, with nothing but the standard library.

Not a client for tests: these have kubectl and the product's own client.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

Object = dict[str, Any]


class ApiError(RuntimeError):
    """The API server refused; ``status`` is the HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class Api:
    """Calls as the cluster's administrator."""

    def __init__(self, url: str, pki: Path) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 443
        self._tls = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        self._tls.load_cert_chain(pki / "admin.crt", pki / "admin.key")

    def get(self, path: str) -> Object:
        return self._call("GET", path)

    def ready(self, path: str = "/readyz") -> bool:
        """Whether the API server answers this health path with 200; False also while it does not listen."""
        with contextlib.suppress(OSError, http.client.HTTPException, ApiError):
            self._call("GET", path)
            return True
        return False

    def exists(self, path: str) -> bool:
        try:
            self._call("GET", path)
        except ApiError as error:
            if error.status == 404:
                return False
            raise
        return True

    def apply(self, path: str, body: Object, subresource: str = "") -> Object:
        """Server-side apply of one object; ``path`` names the collection."""
        whole = f"{path}/{body['metadata']['name']}{subresource}?fieldManager=test-cluster&force=true"
        return self._call("PATCH", whole, body, "application/apply-patch+yaml")

    def merge(self, path: str, body: Object) -> Object:
        return self._call("PATCH", path, body, "application/merge-patch+json")

    def delete(self, path: str) -> None:
        with contextlib.suppress(ApiError):
            self._call("DELETE", path)

    def watch(self, path: str, since: str, seconds: int) -> Iterator[Object]:
        """Events of a collection from a resourceVersion on, until the server ends the watch after ``seconds``."""
        connection = self._connect(seconds + 10)
        try:
            connection.request("GET", f"{path}?watch=true&resourceVersion={since}&timeoutSeconds={seconds}")
            response = connection.getresponse()
            if response.status != 200:
                raise ApiError(response.status, response.read().decode(errors="replace")[:300])
            while line := response.readline():
                yield json.loads(line)
        finally:
            connection.close()

    def _connect(self, timeout: float) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(self._host, self._port, context=self._tls, timeout=timeout)

    def _call(
        self, method: str, path: str, body: Object | None = None, content_type: str = "application/json"
    ) -> Object:
        connection = self._connect(10)
        try:
            data = json.dumps(body).encode() if body is not None else None
            connection.request(
                method, path, body=data, headers={"Content-Type": content_type, "Accept": "application/json"}
            )
            response = connection.getresponse()
            answer = response.read()
            if response.status >= 300:
                raise ApiError(response.status, answer.decode(errors="replace")[:500])
            return json.loads(answer) if answer.startswith(b"{") else {}
        finally:
            connection.close()
